//! Secrets and keys in files that are replaced while users log in.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pem::Pem;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::{IssueTokenRequest, RefusalReason};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
use serde_json::json;
use service_kit::trace::Tracer;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::provider::{INTROSPECTION_PATH, Provider};
use crate::running::{Decision, Running, decide, eventually_decides};

const USER_COUNT: usize = 4;
const TURN_COUNT: usize = 3;

/// Signs tokens, with what the service is told in a file.
struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    file: Vec<u8>,
}

impl Signer {
    fn with_secret(number: usize) -> Self {
        let secret = format!("secret of these tests, number {number:05}");
        let key = EncodingKey::from_secret(secret.as_bytes());
        Self { algorithm: Algorithm::HS256, key, file: format!("{secret}\n").into_bytes() }
    }

    fn with_key(_: usize) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let key = EncodingKey::from_ed_der(&pair.serialize_der());
        let public = pem::encode(&Pem::new("PUBLIC KEY", pair.subject_public_key_info()));
        Self { algorithm: Algorithm::EdDSA, key, file: public.into_bytes() }
    }

    fn token(&self) -> String {
        let in_2100 = 4_102_444_800_u64;
        let claims = json!({"iss": "sockeye", "aud": "sockeye", "sub": "ada", "exp": in_2100});
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key).unwrap()
    }
}

/// A service, and the file that it has its keys from.
struct Watching {
    folder: TempDir,
    service: Running,
}

impl Watching {
    async fn start(flag: &str, first: &Signer, others: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        replace(&file(&folder), &first.file);
        let path = file(&folder);
        let arguments = [&[flag, path.to_str().unwrap()], others].concat();
        let service = Running::start_without_secret(&arguments, Tracer::disabled()).await;
        Self { folder, service }
    }

    /// Puts another key into the file, and waits until its tokens are accepted.
    async fn turn_to(&self, next: &Signer) {
        replace(&file(&self.folder), &next.file);
        let mut client = self.service.client().await;
        eventually_decides(&mut client, &next.token(), Decision::is_accepted).await;
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("key")
}

/// As tools do: half a file is never there.
fn replace(path: &Path, contents: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, contents).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Presents new tokens, and the first one again and again, until all turns are over.
async fn log_in(
    mut client: AuthServiceClient<Channel>,
    signer: Arc<Mutex<Arc<Signer>>>,
    turns: Arc<AtomicUsize>,
) -> usize {
    let current = || signer.lock().unwrap().clone();
    let first = current().token();
    let mut accepted = 0;
    while turns.load(Ordering::Relaxed) < TURN_COUNT {
        for token in [&first, &current().token()] {
            let decision = decide(&mut client, token).await;
            assert!(decision.is_accepted(), "a good token: {decision:?}");
            accepted += 1;
        }
    }
    accepted
}

/// Returns how many tokens were accepted while the file was replaced again and again.
async fn replaced_under_load(flag: &str, make: fn(usize) -> Signer) -> usize {
    let first = Arc::new(make(0));
    let watching = Watching::start(flag, &first, &[]).await;
    let signer = Arc::new(Mutex::new(first));
    let turns = Arc::new(AtomicUsize::new(0));
    let mut users = JoinSet::new();
    for _ in 0..USER_COUNT {
        let client = watching.service.client().await;
        users.spawn(log_in(client, Arc::clone(&signer), Arc::clone(&turns)));
    }
    for number in 1..=TURN_COUNT {
        let next = Arc::new(make(number));
        watching.turn_to(&next).await;
        *signer.lock().unwrap() = next;
        turns.fetch_add(1, Ordering::Relaxed);
    }
    users.join_all().await.into_iter().sum()
}

#[tokio::test]
async fn no_good_token_is_refused_while_secrets_are_replaced() {
    let accepted = replaced_under_load("--auth-hs256-secret-file", Signer::with_secret).await;

    assert!(accepted > USER_COUNT * TURN_COUNT, "{accepted}");
}

#[tokio::test]
async fn no_good_token_is_refused_while_public_keys_are_replaced() {
    let accepted = replaced_under_load("--auth-public-key-file", Signer::with_key).await;

    assert!(accepted > USER_COUNT * TURN_COUNT, "{accepted}");
}

#[tokio::test]
async fn without_an_overlap_a_replaced_secret_is_good_for_nothing() {
    let (old, new) = (Signer::with_secret(1), Signer::with_secret(2));
    let others = ["--auth-key-overlap=0s", "--auth-issue-tokens"];
    let watching = Watching::start("--auth-hs256-secret-file", &old, &others).await;
    let mut client = watching.service.client().await;
    assert!(decide(&mut client, &old.token()).await.is_accepted());

    watching.turn_to(&new).await;

    let refused = Decision::Refused(RefusalReason::Signature);
    assert_eq!(decide(&mut client, &old.token()).await, refused);
    let request = IssueTokenRequest { subject: "ada".to_owned(), ..IssueTokenRequest::default() };
    let issued = client.issue_token(request).await.unwrap().into_inner();
    assert!(
        decide(&mut client, &issued.token).await.is_accepted(),
        "it is signed with the new one"
    );
}

#[tokio::test]
async fn a_file_of_no_use_leaves_the_keys_as_they_are() {
    let (old, new) = (Signer::with_secret(1), Signer::with_secret(2));
    let others = ["--auth-key-overlap=0s"];
    let watching = Watching::start("--auth-hs256-secret-file", &old, &others).await;

    replace(&file(&watching.folder), b"too short");
    // It is looked at meanwhile. That nothing follows has no end to wait for.
    tokio::time::sleep(service_kit::watched_files::LOOK_INTERVAL * 2).await;

    let mut client = watching.service.client().await;
    assert!(decide(&mut client, &old.token()).await.is_accepted());
    watching.turn_to(&new).await;
    assert!(!decide(&mut client, &old.token()).await.is_accepted());
}

#[tokio::test]
async fn an_issuer_is_asked_with_the_secret_of_the_moment() {
    let provider = Provider::start().await;
    let folder = TempDir::new().unwrap();
    replace(&file(&folder), b"old secret\n");
    let service = Running::start_with_issuers(&format!(
        "[[issuer]]\nname = {:?}\naudience = 'chat'\nallow_http_on_loopback = true\n\
         introspection = {{ url = {:?}, client_id = 'edge', client_secret_file = {:?} }}\n",
        provider.issuer(),
        provider.url(INTROSPECTION_PATH),
        file(&folder),
    ))
    .await;
    let mut client = service.client().await;
    let mut ask = async |number: usize| {
        let token = format!("token-{number}");
        let mut answer = provider.claims_for("ada");
        answer["active"] = json!(true);
        provider.introspects(&token, answer);
        assert!(decide(&mut client, &token).await.is_accepted());
        provider.questions().pop().unwrap().1
    };
    // Of `edge:old+secret` and `edge:new+secret`.
    assert_eq!(ask(0).await, "Basic ZWRnZTpvbGQrc2VjcmV0");

    replace(&file(&folder), b"new secret\n");

    let begun = tokio::time::Instant::now();
    for number in 1.. {
        if ask(number).await == "Basic ZWRnZTpuZXcrc2VjcmV0" {
            break;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "the old secret is sent");
    }
}
