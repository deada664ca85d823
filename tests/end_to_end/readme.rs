//! Performs the commands of the README, as a reader would.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    reflection,
    support::{AUDIENCE, Cluster, ISSUER, JsonClient, Process, Program, TokenMint, get, own_host},
};

/// Addresses that the README names, as the services have them by default.
const DEFAULT_CLIENTS: &str = "127.0.0.1:3000";
const DEFAULT_OPS: &str = "127.0.0.1:3001";
const DEFAULT_CHAT: &str = "127.0.0.1:50052";

/// One line of a `sh` block.
#[derive(Debug)]
struct Line {
    environment: BTreeMap<String, String>,
    words: Vec<String>,
}

/// What a line does, for a reader and for these tests.
#[derive(Debug, PartialEq)]
enum Action {
    Start(Program, Vec<String>),
    Fetch {
        url: String,
    },
    Call {
        address: String,
        method: String,
        request: String,
    },
    /// Runs these tests, builds what they start, or needs what no test machine has.
    NotPerformed,
}

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// Returns the contents of the fenced blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let fence = format!("\n```{language}\n");
    let starts = text.split(&fence).skip(1);
    starts.map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

fn lines() -> Vec<Line> {
    let blocks = blocks("sh");
    for block in &blocks {
        assert!(block.starts_with("# "), "a block says first what it is: {block}");
    }
    let lines = blocks.iter().flat_map(|block| block.lines());
    lines.filter(|line| !line.starts_with('#')).map(parse_line).collect()
}

/// Splits a line into words as a shell does, single quotes included. Nothing else of the shell is used in the README.
fn parse_line(line: &str) -> Line {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for character in line.trim_end_matches(" &").chars() {
        match character {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            '$' | '|' | ';' | '>' | '<' | '`' | '*' if !is_quoted => {
                panic!("not understood: {line}")
            }
            _ => words.last_mut().unwrap().push(character),
        }
    }
    let is_variable =
        |word: &str| word.split_once('=').is_some_and(|(name, _)| is_variable_name(name));
    let variable_count = words.iter().take_while(|word| is_variable(word)).count();
    let words_after = words.split_off(variable_count);
    let pair = |word: &String| {
        word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    Line { environment: words.iter().filter_map(pair).collect(), words: words_after }
}

fn is_variable_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn action(line: &Line) -> Action {
    let words: Vec<_> = line.words.iter().map(String::as_str).collect();
    match words[..] {
        ["cargo", "run", "--release"] => Action::Start(Program::Sockeye, vec![]),
        ["cargo", "run", "--release", "--", ..] => {
            Action::Start(Program::Sockeye, line.words[4..].to_vec())
        }
        ["target/release/edge-gateway", ..] => {
            Action::Start(Program::EdgeGateway, line.words[1..].to_vec())
        }
        ["target/release/chat-service", ..] => {
            Action::Start(Program::ChatService, line.words[1..].to_vec())
        }
        ["target/release/auth-service", ..] => {
            Action::Start(Program::AuthService, line.words[1..].to_vec())
        }
        ["curl", "-fsS", url] => Action::Fetch { url: url.to_owned() },
        ["grpcurl", "-plaintext", "-d", request, address, method] => Action::Call {
            address: address.to_owned(),
            method: method.to_owned(),
            request: request.to_owned(),
        },
        ["./test"] | ["cargo", "build", "--release", "--workspace"] | ["docker", "run", ..] => {
            Action::NotPerformed
        }
        _ => panic!("teach this test to perform {words:?}"),
    }
}

fn actions() -> Vec<Action> {
    lines().iter().map(action).collect()
}

#[test]
fn the_readme_starts_fetches_and_calls() {
    let actions = actions();

    assert!(actions.iter().any(|action| matches!(action, Action::Start(Program::Sockeye, _))));
    assert!(actions.iter().any(|action| matches!(action, Action::Fetch { .. })));
    assert!(actions.iter().any(|action| matches!(action, Action::Call { .. })));
}

#[tokio::test]
async fn every_process_that_the_readme_starts_listens() {
    for line in lines() {
        let Action::Start(program, mut settings) = action(&line) else { continue };
        let (service, listener, flags): (_, _, &[&str]) = match program {
            Program::Sockeye => (
                "edge-gateway",
                "clients",
                &["edge-listen", "edge-ops-listen", "chat-listen", "auth-listen"],
            ),
            Program::EdgeGateway => {
                ("edge-gateway", "clients", &["edge-listen", "edge-ops-listen"])
            }
            Program::ChatService => ("chat-service", "grpc", &["chat-listen"]),
            Program::AuthService => ("auth-service", "grpc", &["auth-listen"]),
        };
        settings.extend(flags.iter().map(|flag| format!("--{flag}={}:0", own_host())));
        let certificate = write_certificate();
        let environment: Vec<_> = line
            .environment
            .iter()
            .map(|(name, value)| match name.as_str() {
                // A reader has a certificate for the edge's name.
                "EDGE_TLS_CERT_FILE" | "EDGE_TLS_KEY_FILE" => {
                    (name.as_str(), certificate.path().join(value).display().to_string())
                }
                name => (name, value.clone()),
            })
            .collect();
        let mut process = Process::start(program, &settings, &environment);
        let address = process.address(service, listener).await;

        if let (Program::Sockeye, Some(secret)) =
            (program, line.environment.get("AUTH_HS256_SECRET"))
        {
            let claim = |name: &str, default: &str| {
                json!(line.environment.get(name).map_or(default, String::as_str))
            };
            let mut claims = TokenMint::claims("reader");
            claims["iss"] = claim("AUTH_ISSUER", ISSUER);
            claims["aud"] = claim("AUTH_AUDIENCE", AUDIENCE);
            JsonClient::enter(address, &TokenMint::new(secret).sign(&claims)).await;
        }
    }
}

/// A folder with the files that the README calls `chain.pem` and `key.pem`.
fn write_certificate() -> TempDir {
    let folder = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["edge.example".to_owned()]).unwrap();
    let pem = |tag, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
    fs::write(folder.path().join("chain.pem"), pem("CERTIFICATE", made.cert.der())).unwrap();
    let key = pem("PRIVATE KEY", &made.signing_key.serialize_der());
    fs::write(folder.path().join("key.pem"), key).unwrap();
    folder
}

#[tokio::test]
async fn every_address_that_the_readme_fetches_answers() {
    let cluster = Cluster::builder().in_one_process().start().await;

    for action in actions() {
        let Action::Fetch { url } = action else { continue };
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let address = match address {
            DEFAULT_CLIENTS => cluster.clients,
            DEFAULT_OPS => cluster.ops,
            _ => panic!("nobody listens on {address}"),
        };
        let response = get(address, &format!("/{path}")).await;
        assert_eq!(response.status, 200, "{url}: {}", response.body);
    }
}

#[tokio::test]
async fn what_the_readme_publishes_is_seen_in_the_lobby() {
    let cluster = Cluster::builder().in_one_process().start().await;
    let mut client = cluster.json("reader").await;
    client.request("join", json!("lobby")).await.unwrap();

    for action in actions() {
        let Action::Call { address, method, request } = action else { continue };
        assert_eq!(address, DEFAULT_CHAT);
        let answer = reflection::call(cluster.chat, &method, &request).await.unwrap();

        let message = client.event("message").await;
        let request: Value = serde_json::from_str(&request).unwrap();
        let sent: Value = serde_json::from_str(request["data"].as_str().unwrap()).unwrap();
        assert_eq!((&message["text"], &message["room"]), (&sent["text"], &json!("lobby")));
        assert_eq!(message["id"], answer["id"]);
    }
}

#[tokio::test]
async fn the_plain_messages_of_the_readme_are_understood() {
    let cluster = Cluster::builder().in_one_process().start().await;
    let messages = blocks("text").into_iter().find(|block| block.contains(r#""event": "auth""#));
    let messages = messages.expect("the README shows plain messages");
    let mut client = JsonClient::open(cluster.clients).await;

    for line in messages.lines() {
        client.send(line.replace('…', &cluster.mint.token("reader"))).await;
    }

    assert_eq!(client.message().await["event"], "connected");
    let joined = client.find(|message| message["id"] == 1).await;
    assert_eq!(joined["data"]["room"], "lobby");
    assert_eq!(client.event("message").await["text"], "Hello");
    let logged = client.find(|message| message["id"] == 2).await;
    assert!(logged["data"]["position"].is_string(), "{logged}");
}
