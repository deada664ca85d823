//! Issuers that say themselves where their keys are.

use tonic::Code;

use crate::provider::{Answer, DISCOVERY_PATH, KEYS_PATH, Provider, SigningKey};
use crate::running::{Decision, Running, decide};

async fn start(provider: &Provider) -> Running {
    Running::start_with_issuers(&format!(
        "[[issuer]]\nname = {:?}\naudience = 'chat'\nalgorithms = ['EdDSA']\ndiscovery = true\n\
         allow_http_on_loopback = true\n",
        provider.issuer(),
    ))
    .await
}

#[tokio::test]
async fn keys_are_where_the_issuer_says() {
    let (provider, key_server) = (Provider::start().await, Provider::start().await);
    let key = SigningKey::new("a");
    provider.describe(&provider.issuer(), &key_server.url(KEYS_PATH));
    key_server.publish(&[&key]);
    let service = start(&provider).await;
    let mut client = service.client().await;
    let claims = provider.claims_for("ada");
    assert!(decide(&mut client, &key.sign(&claims)).await.is_accepted());

    let next = SigningKey::new("next");
    provider.describe(&provider.issuer(), &provider.url(KEYS_PATH));
    provider.publish(&[&next]);

    assert!(decide(&mut client, &next.sign(&claims)).await.is_accepted(), "the keys have moved");
    assert!(!decide(&mut client, &key.sign(&claims)).await.is_accepted());
    assert_eq!(key_server.request_count(KEYS_PATH), 1);
}

#[tokio::test]
async fn an_issuer_that_says_nothing_good_of_itself_decides_nothing() {
    let (provider, elsewhere) = (Provider::start().await, Provider::start().await);
    let key = SigningKey::new("a");
    provider.publish(&[&key]);
    elsewhere.publish(&[&key]);
    elsewhere.describe(&provider.issuer(), &elsewhere.url(KEYS_PATH));
    let ours = provider.issuer();
    for (issuer, keys) in [
        (elsewhere.issuer(), provider.url(KEYS_PATH)),
        (format!("{ours}/"), provider.url(KEYS_PATH)),
        (ours.clone(), "http://id.example/keys".to_owned()),
        (ours.clone(), "file:///keys".to_owned()),
    ] {
        provider.describe(&issuer, &keys);
        let mut client = start(&provider).await.client().await;
        let decision = decide(&mut client, &key.sign(&provider.claims_for("ada"))).await;
        assert_eq!(decision, Decision::None(Code::Unavailable), "{issuer} {keys}");
    }

    provider.answer(DISCOVERY_PATH, Answer::Redirect(elsewhere.url(DISCOVERY_PATH)));
    let mut client = start(&provider).await.client().await;
    let decision = decide(&mut client, &key.sign(&provider.claims_for("ada"))).await;
    assert_eq!(decision, Decision::None(Code::Unavailable));
    assert_eq!(provider.request_count(KEYS_PATH) + elsewhere.request_count(KEYS_PATH), 0);
}
