//! The binary: settings, exit codes, signals, and what its log must not say.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::issue_ticket_response::Outcome;
use proto::auth::v1::ticket_service_client::TicketServiceClient;
use proto::auth::v1::{AuthenticateRequest, IssueTicketRequest, IssueTokenRequest};
use serde_json::{Value, json};

use crate::http::get;
use crate::provider::{Answer, INTROSPECTION_PATH, KEYS_PATH, Provider, SigningKey};
use crate::running::authenticate;
use crate::tokens::{SECRET, expired_token, token_for, token_of_bytes};

const DEADLINE: Duration = Duration::from_secs(20);

/// The binary with no settings but these.
fn auth_service(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auth-service"));
    command
        .args(arguments)
        .env_clear()
        .env("LOG_FORMAT", "json")
        .env("AUTH_LISTEN", "127.0.0.1:0")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the binary to its end, which it must find by itself.
pub(crate) fn exit_of(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let (sender, receiver) = mpsc::channel();
    let mut command = auth_service(arguments, variables);
    thread::spawn(move || sender.send(command.output().unwrap()));
    let output = receiver.recv_timeout(DEADLINE).expect("the process ends by itself");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A running process, its log read along.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// Starts the binary and waits until it listens.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = auth_service(arguments, variables).spawn().unwrap();
        let log = read_lines(child.stderr.take().unwrap());
        let mut process = Self { child, address: String::new(), log, seen: Vec::new() };
        process.address = process.address_of("grpc");
        process
    }

    /// Reads the log until it names the address of a listener.
    fn address_of(&mut self, listener: &str) -> String {
        loop {
            let line = self.log.recv_timeout(DEADLINE).expect("the process listens");
            self.seen.push(line.clone());
            let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
            if entry["message"] == "listening" && entry["listener"] == listener {
                assert_eq!(entry["service"], "auth-service", "{line}");
                return entry["address"].as_str().unwrap().to_owned();
            }
        }
    }

    pub(crate) async fn ticket_for(&self, token: &str) -> String {
        let address = format!("http://{}", self.address);
        let mut client = TicketServiceClient::connect(address).await.unwrap();
        let request = IssueTicketRequest { token: token.to_owned() };
        match client.issue_ticket(request).await.unwrap().into_inner().outcome {
            Some(Outcome::Ticket(ticket)) => ticket.ticket,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn client(&self) -> AuthServiceClient<tonic::transport::Channel> {
        AuthServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }

    /// Sends SIGTERM and returns how the process ended, with its whole log.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        while let Ok(line) = self.log.recv_timeout(DEADLINE) {
            self.seen.push(line);
        }
        // Its stderr is closed, so the process has ended or is about to.
        (self.child.wait().unwrap(), self.seen.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where the process has ended, which is all the same.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read_lines(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            if sender.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn a_wrong_command_line_exits_with_64() {
    for arguments in [
        &["--no-such-flag"][..],
        &["--auth-listen=nowhere"],
        &["--auth-clock-leeway=1day"],
        &["--auth-threads=0"],
        &["--auth-hs256-secret=correct horse battery staple, twice over"],
    ] {
        let (code, text) = exit_of(arguments, &[]);
        assert_eq!(code, 64, "{text}");
        assert!(!text.contains("horse"), "{text}");
    }
}

#[test]
fn help_exits_with_0_and_names_every_variable_but_no_secret() {
    let (code, text) = exit_of(&["--help"], &[("AUTH_HS256_SECRET", SECRET)]);

    assert_eq!(code, 0);
    for variable in [
        "AUTH_LISTEN",
        "AUTH_OPS_LISTEN",
        "AUTH_HS256_SECRET",
        "AUTH_HS256_SECRET_FILE",
        "AUTH_PUBLIC_KEY_FILES",
        "AUTH_ISSUER",
        "AUTH_AUDIENCE",
        "AUTH_THREADS",
        "AUTH_CLOCK_LEEWAY",
        "AUTH_KEY_OVERLAP",
        "AUTH_ISSUE_TOKENS",
        "LOG_FORMAT",
    ] {
        assert!(text.contains(&format!("[env: {variable}")), "{variable}");
    }
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn wrong_settings_exit_with_78_and_one_line_that_says_why() {
    let short_secret = "correct horse";
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[], "there is no key"),
        (&[("AUTH_HS256_SECRET", short_secret)], "13 bytes"),
        (&[("AUTH_HS256_SECRET_FILE", "no/such/file")], "no/such/file cannot be read"),
        (
            &[("AUTH_PUBLIC_KEY_FILES", "no/such/key.pem")],
            "no/such/key.pem cannot serve as a key file",
        ),
        (&[("AUTH_HS256_SECRET", SECRET), ("AUTH_HS256_SECRET_FILE", "secret")], "both set"),
    ];
    for (variables, reason) in cases {
        let (code, text) = exit_of(&[], variables);
        assert_eq!(code, 78, "{text}");
        assert!(text.contains(reason), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains(SECRET) && !text.contains(short_secret), "{text}");
    }
}

#[test]
fn issuing_without_a_secret_to_sign_with_exits_with_78() {
    let key = tempfile::NamedTempFile::new().unwrap();
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    std::fs::write(key.path(), format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)).unwrap();

    let (code, text) = exit_of(
        &["--auth-issue-tokens"],
        &[("AUTH_PUBLIC_KEY_FILES", key.path().to_str().unwrap())],
    );

    assert_eq!(code, 78, "{text}");
    assert!(text.contains("AUTH_ISSUE_TOKENS needs an HS256 secret"), "{text}");
}

#[test]
fn an_address_that_is_taken_exits_with_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    for flag in ["--auth-listen", "--auth-ops-listen"] {
        let (code, text) = exit_of(&[flag, &address], &[("AUTH_HS256_SECRET", SECRET)]);
        assert_eq!(code, 69, "{text}");
        assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
    }
}

#[test]
fn sigterm_ends_it_with_0() {
    let process = Process::start(&[], &[("AUTH_HS256_SECRET", SECRET)]);

    let (status, log) = process.terminate();

    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
#[cfg(target_os = "linux")]
fn it_has_so_many_threads() {
    // Those for work that blocks have the same name.
    let count_of = |process: &Process| {
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap();
        let names = threads.map(|one| std::fs::read_to_string(one.unwrap().path().join("comm")));
        names.filter(|name| name.as_ref().is_ok_and(|it| it.trim() == "tokio-rt-worker")).count()
    };
    let start = |flag| Process::start(&[flag], &[("AUTH_HS256_SECRET", SECRET)]);
    let (many, one) = (start("--auth-threads=8"), start("--auth-threads=1"));
    let begun = Instant::now();

    // A thread has its name once it has had its first turn.
    while count_of(&many) < 8 {
        assert!(begun.elapsed() < DEADLINE);
        thread::yield_now();
    }
    assert!(count_of(&one) < 8);
}

#[test]
fn issuing_is_announced_loudly_and_only_then() {
    let warns = |variables: &[(&str, &str)]| {
        let (_, log) = Process::start(&[], variables).terminate();
        log.lines().any(|line| line.contains("\"WARN\"") && line.contains("ISSUING TOKENS IS ON"))
    };

    assert!(warns(&[("AUTH_HS256_SECRET", SECRET), ("AUTH_ISSUE_TOKENS", "true")]));
    assert!(!warns(&[("AUTH_HS256_SECRET", SECRET)]));
    assert!(!warns(&[("AUTH_HS256_SECRET", SECRET), ("AUTH_ISSUE_TOKENS", "false")]));
}

#[tokio::test]
async fn nothing_of_a_token_or_the_secret_is_in_the_most_talkative_log() {
    let process = Process::start(
        &["--auth-issue-tokens"],
        &[("AUTH_HS256_SECRET", SECRET), ("LOG_FILTER", "trace")],
    );
    let mut client = process.client().await;
    let good = token_for("canary-subject");
    let tampered = format!("{}AA", &good[..good.len() - 2]);
    let subject = "canary-subject".to_owned();
    let request = IssueTokenRequest {
        subject,
        name: "canary-name".to_owned(),
        lifetime_seconds: 60,
        capabilities: None,
    };

    let issued = client.issue_token(request).await.unwrap().into_inner().token;
    for token in [&good, &tampered, &expired_token(), &issued] {
        drop(authenticate(&mut client, token).await);
    }
    let oversized = AuthenticateRequest { token: token_of_bytes(2_000_000) };
    client.authenticate(oversized).await.unwrap_err();
    let (_, log) = process.terminate();

    assert!(log.contains("token refused"), "the log is talkative indeed");
    for token in [&good, &tampered, &issued] {
        for part in token.split('.').skip(1) {
            assert!(!log.contains(part), "{part} is in the log");
        }
    }
    for canary in [SECRET, "canary-subject", "canary-name"] {
        assert!(!log.contains(canary), "{canary} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuers_that_are_asked_are_in_the_metrics_and_their_secrets_nowhere() {
    let provider = Provider::start().await;
    let key = SigningKey::new("a");
    let other_use = json!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "use": "enc"});
    let keys = json!({"keys": [key.jwk(), other_use]});
    provider.answer(KEYS_PATH, Answer::Json(keys));
    let opaque = "canary-opaque-token";
    let mut claims = provider.claims_for("canary-subject");
    (claims["active"], claims["iss"]) = (json!(true), json!("asked"));
    provider.introspects(opaque, claims);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "canary-secret").unwrap();
    let path = directory.path().join("issuers.toml");
    let (issuer, keys) = (provider.issuer(), provider.url(KEYS_PATH));
    let common = "audience = 'chat'\nallow_http_on_loopback = true";
    let introspection = provider.url(INTROSPECTION_PATH);
    let issuers = format!(
        "[[issuer]]\nname = '{issuer}'\nalgorithms = ['EdDSA']\njwks_url = '{keys}?key=canary-query'\n{common}\n\
         [[issuer]]\nname = 'asked'\n{common}\n\
         introspection = {{ url = '{introspection}', client_id = 'edge', client_secret_file = 'secret' }}\n"
    );
    std::fs::write(&path, issuers).unwrap();
    let arguments = ["--auth-issuers-file", path.to_str().unwrap()];
    let variables = [("LOG_FILTER", "trace"), ("AUTH_OPS_LISTEN", "127.0.0.1:0")];

    let mut process = Process::start(&arguments, &variables);
    let ops = process.address_of("ops").parse().unwrap();
    let mut client = process.client().await;
    let token = key.sign(&provider.claims_for("canary-subject"));
    for token in [&token, opaque, opaque, "canary-made-up-token"] {
        drop(authenticate(&mut client, token).await);
    }
    let ticket = process.ticket_for(opaque).await;
    authenticate(&mut client, &ticket).await.unwrap();
    let page = get(ops, "/metrics").await;
    let (_, log) = process.terminate();

    for line in [
        &format!("sockeye_auth_key_fetches_total{{issuer=\"{issuer}\",outcome=\"fetched\"}} 1"),
        &format!("sockeye_auth_keys{{issuer=\"{issuer}\"}} 1"),
        "sockeye_auth_keys_skipped_total{reason=\"other_use\"} 1",
        "sockeye_auth_introspections_total{issuer=\"asked\",outcome=\"answered\"} 2",
        "sockeye_auth_introspections_remembered_total 2",
        "sockeye_auth_tickets_issued_total 1",
        "sockeye_auth_authentications_total{outcome=\"accepted\"} 4",
        "sockeye_auth_authentications_total{outcome=\"inactive\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    assert!(page.contains("sockeye_auth_keys_fetched_timestamp_seconds"), "{page}");
    assert!(log.contains("a key of the issuer is skipped"), "the log is talkative indeed");
    let authorization = provider.questions()[0].1.replace("Basic ", "");
    let parts = token.split('.').skip(1).chain([&ticket["ticket:".len()..], &authorization]);
    for canary in parts.chain(["canary"]) {
        assert!(!log.contains(canary), "{canary} is in the log");
        assert!(!page.contains(canary), "{canary} is in the metrics");
    }
}

#[test]
fn check_tells_what_is_wrong_with_the_issuers_and_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), SECRET).unwrap();
    let path = directory.path().join("issuers.toml");
    let path_text = path.to_str().unwrap();
    let good = r#"
        [[issuer]]
        name = "sockeye"
        audience = "sockeye"
        algorithms = ["HS256"]
        hs256_secret_file = "secret"
    "#;
    let check = |issuers: &str, variables: &[(&str, &str)]| {
        std::fs::write(&path, issuers).unwrap();
        exit_of(&["--check", "--auth-issuers-file", path_text], variables)
    };

    assert_eq!(check(good, &[]), (0, String::new()));
    let (code, text) = check(&good.replace("HS256", "none"), &[]);
    assert!(code == 78 && text.contains("none of HS256"), "{code}: {text}");
    let remote = good.replace("HS256", "RS256").replace("hs256_secret_file = \"secret\"", "");
    // Nobody is at that address, and nobody is asked.
    let plain = format!("{remote}\nallow_http_on_loopback = true\njwks_url = 'http://127.0.0.1:1'");
    assert_eq!(check(&plain, &[]), (0, String::new()));
    let (code, text) = check(&format!("{remote}\njwks_url = 'http://id.example/keys'"), &[]);
    assert!(code == 78 && text.contains("`jwks_url`: it is not https"), "{code}: {text}");
    let (code, text) = check(good, &[("AUTH_HS256_SECRET", SECRET)]);
    assert!(
        code == 78 && text.contains("are both set") && !text.contains(SECRET),
        "{code}: {text}"
    );
}

#[tokio::test]
async fn a_token_of_an_issuer_in_the_file_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), SECRET).unwrap();
    let path = directory.path().join("issuers.toml");
    let issuer = |name: &str| {
        format!(
            "[[issuer]]\nname = \"{name}\"\naudience = \"sockeye\"\nalgorithms = [\"HS256\"]\n\
             hs256_secret_file = \"secret\"\n"
        )
    };
    std::fs::write(&path, [issuer("other"), issuer("sockeye")].concat()).unwrap();

    let process = Process::start(&["--auth-issuers-file", path.to_str().unwrap()], &[]);

    let identity = authenticate(&mut process.client().await, &token_for("ada")).await.unwrap();
    assert_eq!(identity.issuer, "sockeye");
    process.terminate();
}

#[tokio::test]
async fn files_that_are_read_again_are_counted_and_told_for_each_issuer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("issuers.toml");
    let issuer = |name: &str| {
        std::fs::write(directory.path().join(name), SECRET).unwrap();
        format!(
            "[[issuer]]\nname = \"{name}\"\naudience = \"sockeye\"\nalgorithms = [\"HS256\"]\n\
             hs256_secret_file = \"{name}\"\n"
        )
    };
    std::fs::write(&path, [issuer("one"), issuer("two")].concat()).unwrap();
    let arguments = ["--auth-issuers-file", path.to_str().unwrap()];
    let mut process = Process::start(&arguments, &[("AUTH_OPS_LISTEN", "127.0.0.1:0")]);
    let ops = process.address_of("ops").parse().unwrap();
    let line = |owner: &str, outcome: &str| {
        let labels = format!("files=\"auth_keys\",owner=\"{owner}\",outcome=\"{outcome}\"");
        format!("sockeye_file_reloads_total{{{labels}}} ")
    };

    std::fs::write(directory.path().join("two"), "too short").unwrap();
    let begun = tokio::time::Instant::now();
    let page = loop {
        let page = get(ops, "/metrics").await;
        if page.contains(&line("two", "failed")) && !page.contains(&(line("two", "failed") + "0")) {
            break page;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };

    for untouched in [line("one", "failed"), line("one", "loaded"), line("two", "loaded")] {
        assert!(page.contains(&(untouched.clone() + "0\n")), "{untouched} in {page}");
    }
    let (_, log) = process.terminate();
    let told = log.lines().find(|line| line.contains("changed files are of no use"));
    assert!(told.unwrap().contains("two"), "{log}");
}
