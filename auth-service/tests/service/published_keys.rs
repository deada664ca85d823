//! Keys that an issuer publishes: rotation, outages, and hostile answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use proto::auth::v1::RefusalReason;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tonic::Code;

use crate::provider::{Answer, KEYS_PATH, Provider, SigningKey};
use crate::running::{Decision, Running, decide, eventually_decides};

const UNKNOWN_KEY: Decision = Decision::Refused(RefusalReason::UnknownKey);
const NOTHING_DECIDED: Decision = Decision::None(Code::Unavailable);

fn issuer(provider: &Provider, settings: &str) -> String {
    format!(
        "[[issuer]]\nname = {:?}\naudience = 'chat'\nalgorithms = ['EdDSA']\njwks_url = {:?}\n\
         allow_http_on_loopback = true\n{settings}\n",
        provider.issuer(),
        provider.url(KEYS_PATH),
    )
}

async fn start(provider: &Provider, settings: &str) -> Running {
    Running::start_with_issuers(&issuer(provider, settings)).await
}

#[tokio::test]
async fn tokens_of_published_keys_are_accepted_and_no_others() {
    let provider = Provider::start().await;
    let (key, other) = (SigningKey::new("a"), SigningKey::new("a"));
    provider.publish(&[&key]);
    let service = start(&provider, "").await;
    let mut client = service.client().await;
    let claims = provider.claims_for("ada");

    let Decision::Accepted(identity) = decide(&mut client, &key.sign(&claims)).await else {
        panic!("a good token")
    };

    assert_eq!((identity.subject, identity.issuer), ("ada".to_owned(), provider.issuer()));
    let forged = decide(&mut client, &other.sign(&claims)).await;
    assert_eq!(forged, Decision::Refused(RefusalReason::Signature));
    for algorithm in ["HS256", "RS256", "none"] {
        let header = json!({"alg": algorithm, "kid": "a"});
        let confused = decide(&mut client, &key.sign_with(&header, &claims)).await;
        assert_eq!(confused, Decision::Refused(RefusalReason::Algorithm));
    }
    assert_eq!(provider.request_count(KEYS_PATH), 1);
}

#[tokio::test]
async fn addresses_and_keys_in_a_token_are_never_followed() {
    let (provider, canary) = (Provider::start().await, Provider::start().await);
    let (key, forger) = (SigningKey::new("a"), SigningKey::new("b"));
    provider.publish(&[&key]);
    canary.publish(&[&forger]);
    let service = start(&provider, "").await;
    let mut client = service.client().await;

    for id in ["b", "../../etc/passwd", "' OR 1=1", &canary.url(KEYS_PATH), &"k".repeat(4000)] {
        let url = canary.url(KEYS_PATH);
        let header = json!({
            "alg": "EdDSA", "kid": id, "jku": url, "x5u": url, "jwk": forger.jwk(),
        });
        let decision =
            decide(&mut client, &forger.sign_with(&header, &provider.claims_for("ada"))).await;
        assert!(!decision.is_accepted(), "{id}");
    }

    assert_eq!(canary.request_count(KEYS_PATH), 0);
}

#[tokio::test]
async fn a_new_key_is_fetched_for_its_first_token() {
    let provider = Provider::start().await;
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    provider.publish(&[&old]);
    let service = start(&provider, "").await;
    let mut client = service.client().await;
    let claims = provider.claims_for("ada");
    assert!(decide(&mut client, &old.sign(&claims)).await.is_accepted());

    provider.publish(&[&old, &new]);

    assert!(decide(&mut client, &new.sign(&claims)).await.is_accepted());
    assert!(decide(&mut client, &old.sign(&claims)).await.is_accepted(), "still published");
    assert_eq!(provider.request_count(KEYS_PATH), 2);
}

#[tokio::test]
async fn many_tokens_of_a_new_key_cause_one_fetch() {
    let provider = Provider::start().await;
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    provider.publish(&[&old]);
    let service = start(&provider, "").await;
    let mut client = service.client().await;
    assert!(decide(&mut client, &old.sign(&provider.claims_for("ada"))).await.is_accepted());
    provider.publish(&[&old, &new]);

    let mut calls = JoinSet::new();
    for number in 0..50 {
        let mut client = client.clone();
        let token = new.sign(&provider.claims_for(&format!("user-{number}")));
        calls.spawn(async move { decide(&mut client, &token).await });
    }

    for decision in calls.join_all().await {
        assert!(decision.is_accepted(), "{decision:?}");
    }
    assert_eq!(provider.request_count(KEYS_PATH), 2);
}

#[tokio::test]
async fn a_key_that_is_published_no_more_is_refused() {
    let provider = Provider::start().await;
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    provider.publish(&[&old, &new]);
    let service = start(&provider, "jwks_refresh = '1s'").await;
    let mut client = service.client().await;
    let claims = provider.claims_for("ada");
    assert!(decide(&mut client, &old.sign(&claims)).await.is_accepted());

    provider.publish(&[&new]);

    eventually_decides(&mut client, &old.sign(&claims), |decision| *decision == UNKNOWN_KEY).await;
    assert!(decide(&mut client, &new.sign(&claims)).await.is_accepted());
    provider.publish(&[]);
    eventually_decides(&mut client, &new.sign(&claims), |decision| !decision.is_accepted()).await;
}

#[tokio::test]
async fn made_up_keys_cause_three_fetches_and_keep_nobody_out() {
    let provider = Provider::start().await;
    let (key, forger) = (SigningKey::new("a"), SigningKey::new("b"));
    provider.publish(&[&key]);
    let service = start(&provider, "").await;
    let mut client = service.client().await;
    let claims = provider.claims_for("ada");
    let forged = |id: usize| {
        forger.sign_with(&json!({"alg": "EdDSA", "kid": format!("made-up-{id}")}), &claims)
    };
    let began_at = Instant::now();

    for id in 0..3 {
        assert_eq!(decide(&mut client, &forged(id)).await, UNKNOWN_KEY);
    }
    for id in 3..150 {
        // Nothing is known about such a key until the next fetch is due.
        assert_eq!(decide(&mut client, &forged(id)).await, NOTHING_DECIDED);
        assert_eq!(decide(&mut client, &forged(0)).await, UNKNOWN_KEY, "that one is known");
        if id % 50 == 0 {
            assert!(decide(&mut client, &key.sign(&claims)).await.is_accepted());
        }
    }

    assert!(began_at.elapsed() < Duration::from_secs(10), "the next fetch may be due");
    assert_eq!(provider.request_count(KEYS_PATH), 4);
}

#[tokio::test]
async fn a_new_key_is_fetched_at_once_also_behind_a_made_up_one() {
    let provider = Provider::start().await;
    let (old, new, forger) = (SigningKey::new("a"), SigningKey::new("b"), SigningKey::new("c"));
    provider.publish(&[&old]);
    let service = start(&provider, "").await;
    let mut client = service.client().await;
    let claims = provider.claims_for("ada");
    assert!(decide(&mut client, &old.sign(&claims)).await.is_accepted());

    assert_eq!(decide(&mut client, &forger.sign(&claims)).await, UNKNOWN_KEY);
    provider.publish(&[&old, &new]);

    assert!(decide(&mut client, &new.sign(&claims)).await.is_accepted());
    assert_eq!(provider.request_count(KEYS_PATH), 3);
}

#[tokio::test]
async fn keys_outlive_a_short_outage_and_nobody_is_refused_in_a_long_one() {
    let provider = Provider::start().await;
    let key = SigningKey::new("a");
    provider.publish(&[&key]);
    let service = start(&provider, "jwks_refresh = '1s'\njwks_max_age = '3s'").await;
    let mut client = service.client().await;
    let token = key.sign(&provider.claims_for("ada"));
    assert!(decide(&mut client, &token).await.is_accepted());

    provider.answer(KEYS_PATH, Answer::Status(StatusCode::INTERNAL_SERVER_ERROR));
    let (began_at, fetched) = (Instant::now(), provider.request_count(KEYS_PATH));
    eventually_decides(&mut client, &token, |decision| {
        assert!(decision.is_accepted() || *decision == NOTHING_DECIDED, "{decision:?}");
        !decision.is_accepted()
    })
    .await;
    assert!(began_at.elapsed() > Duration::from_secs(1), "the outage was outlived for a while");
    assert!(provider.request_count(KEYS_PATH) > fetched, "the provider was asked meanwhile");

    provider.publish(&[&key]);
    eventually_decides(&mut client, &token, Decision::is_accepted).await;
}

#[tokio::test]
async fn answers_that_are_no_key_set_decide_nothing() {
    let (provider, elsewhere) = (Provider::start().await, Provider::start().await);
    let key = SigningKey::new("a");
    elsewhere.publish(&[&key]);
    let padded = json!({"keys": [key.jwk()], "padding": "x".repeat(256 * 1024)}).to_string();
    for answer in [
        Answer::Redirect(elsewhere.url(KEYS_PATH)),
        Answer::Bytes(padded.into()),
        Answer::Bytes("<html>".into()),
        Answer::Json(json!({"keys": "none"})),
        Answer::Status(StatusCode::NOT_FOUND),
        Answer::Status(StatusCode::NO_CONTENT),
        Answer::Never,
    ] {
        provider.answer(KEYS_PATH, answer);
        let service = start(&provider, "").await;
        let mut client = service.client().await;

        let decision = decide(&mut client, &key.sign(&provider.claims_for("ada"))).await;

        assert_eq!(decision, NOTHING_DECIDED);
    }
    assert_eq!(elsewhere.request_count(KEYS_PATH), 0);
}

#[tokio::test]
async fn keys_of_no_use_leave_the_others_their_use() {
    let provider = Provider::start().await;
    let key = SigningKey::new("a");
    let with = |name: &str, value: Value| {
        let mut jwk = SigningKey::new(name).jwk();
        jwk[name] = value;
        jwk
    };
    let keys = json!([
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("ES256")),
        with("d", json!("AAAA")),
        {"kty": "future"},
        7,
        key.jwk(),
    ]);
    provider.answer(KEYS_PATH, Answer::Json(json!({ "keys": keys })));
    let service = start(&provider, "").await;
    let mut client = service.client().await;

    assert!(decide(&mut client, &key.sign(&provider.claims_for("ada"))).await.is_accepted());
}

/// Returns a certificate authority's certificate, and a TLS server that has one of its certificates.
fn authority_and_acceptor() -> (NamedTempFile, TlsAcceptor) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let file = NamedTempFile::new().unwrap();
    let certificate = authority.self_signed(&authority_key).unwrap();
    let pem = pem::encode(&pem::Pem::new("CERTIFICATE", certificate.der().to_vec()));
    std::fs::write(file.path(), pem).unwrap();

    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (file, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn keys_come_from_a_server_with_a_certificate_that_is_trusted() {
    let (authority, acceptor) = authority_and_acceptor();
    let (other_authority, _) = authority_and_acceptor();
    let provider = Provider::start_with_tls(acceptor).await;
    let key = SigningKey::new("a");
    provider.publish(&[&key]);
    let token = key.sign(&provider.claims_for("ada"));

    for (authority, is_trusted) in [(&authority, true), (&other_authority, false)] {
        let service = start(&provider, &format!("ca_file = {:?}", authority.path())).await;
        let mut client = service.client().await;

        let decision = decide(&mut client, &token).await;

        assert_eq!(decision.is_accepted(), is_trusted, "{decision:?}");
        assert!(is_trusted || decision == NOTHING_DECIDED, "{decision:?}");
    }
    assert_eq!(provider.request_count(KEYS_PATH), 1);
}
