//! A provider that turns its keys over while users log in without a pause.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use proto::auth::v1::RefusalReason;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::provider::{KEYS_PATH, Provider, SigningKey, TOKEN_PATH};
use crate::running::{Decision, Running, decide, eventually_decides};

const USER_COUNT: usize = 8;
const TURN_COUNT: usize = 5;

/// When a new key begins to sign.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// Once it was published for long enough to be fetched.
    Announced,
    /// As soon as it is published.
    Sudden,
}

/// The provider's keys in turn: those that signed, the one that signs, and the one that will.
struct Keys {
    turn: Turn,
    /// The oldest first. The last one but one signs, or the last one where none is announced.
    published: VecDeque<SigningKey>,
    turn_count: usize,
    /// How often keys were fetched when the last one was published.
    fetched: usize,
}

impl Keys {
    fn new(turn: Turn, provider: &Provider) -> Self {
        let published = (0..3).map(|number| SigningKey::new(&format!("key-{number}"))).collect();
        let keys = Self { turn, published, turn_count: 0, fetched: 0 };
        keys.publish(provider);
        keys
    }

    /// Goes on to the next key, if the present one was fetched since it was published.
    fn turn_over(&mut self, provider: &Provider) {
        let fetched = provider.request_count(KEYS_PATH);
        if fetched == self.fetched {
            return;
        }
        self.fetched = fetched;
        self.turn_count += 1;
        self.published.push_back(SigningKey::new(&format!("key-{}", self.turn_count + 2)));
        self.published.pop_front();
        self.publish(provider);
    }

    fn publish(&self, provider: &Provider) {
        let keys: Vec<_> = self.published.iter().collect();
        provider.publish(&keys);
        let last = keys.len() - 1;
        provider.sign_with(keys[if self.turn == Turn::Announced { last - 1 } else { last }]);
    }
}

async fn start(provider: &Provider) -> Running {
    provider.describe(&provider.issuer(), &provider.url(KEYS_PATH));
    Running::start_with_issuers(&format!(
        "[[issuer]]\nname = {:?}\naudience = 'chat'\nalgorithms = ['EdDSA']\ndiscovery = true\n\
         jwks_refresh = '1s'\nallow_http_on_loopback = true\n",
        provider.issuer(),
    ))
    .await
}

/// Logs in and connects until all turns are over. Returns how many tokens were accepted, and how many calls decided nothing.
async fn log_in_and_connect(
    mut client: AuthServiceClient<Channel>,
    provider: Arc<Provider>,
    keys: Arc<Mutex<Keys>>,
) -> (usize, usize) {
    let (mut accepted, mut undecided) = (0, 0);
    while keys.lock().unwrap().turn_count < TURN_COUNT {
        let answer: Value = provider.post(TOKEN_PATH).await;
        let token = answer["access_token"].as_str().unwrap();
        // As an edge does, which asks again while nothing is decided.
        loop {
            match decide(&mut client, token).await {
                Decision::Accepted(_) => break,
                Decision::None(Code::Unavailable) => undecided += 1,
                other @ (Decision::None(_) | Decision::Refused(_)) => {
                    panic!("a good token: {other:?}")
                }
            }
        }
        accepted += 1;
        keys.lock().unwrap().turn_over(&provider);
    }
    (accepted, undecided)
}

/// Returns how many tokens were accepted while the keys were turned over, and how many calls decided nothing.
async fn turn_over(turn: Turn) -> (usize, usize) {
    let provider = Arc::new(Provider::start().await);
    let keys = Arc::new(Mutex::new(Keys::new(turn, &provider)));
    let service = start(&provider).await;
    let first: Value = provider.post(TOKEN_PATH).await;

    let mut users = JoinSet::new();
    for _ in 0..USER_COUNT {
        let (provider, keys) = (provider.clone(), keys.clone());
        users.spawn(log_in_and_connect(service.client().await, provider, keys));
    }
    let counts = users.join_all().await;

    let retired = first["access_token"].as_str().unwrap();
    eventually_decides(&mut service.client().await, retired, |decision| {
        *decision == Decision::Refused(RefusalReason::UnknownKey)
    })
    .await;
    counts
        .iter()
        .fold((0, 0), |(all, none), (accepted, undecided)| (all + accepted, none + undecided))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_good_token_is_refused_while_announced_keys_turn_over() {
    let (accepted, undecided) = turn_over(Turn::Announced).await;

    assert!(accepted > TURN_COUNT * USER_COUNT, "{accepted}");
    assert_eq!(undecided, 0, "of {accepted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_good_token_is_refused_while_keys_turn_over_unannounced() {
    let (accepted, _) = turn_over(Turn::Sudden).await;

    assert!(accepted > TURN_COUNT, "{accepted}");
}
