//! What each setting does, and what it refuses.

use std::fs;

use clap::Parser;
use clap::error::ErrorKind;

use super::*;

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
    let arguments = ["auth-service"].iter().chain(arguments);
    Settings::try_parse_from(arguments).map(|settings| settings.config)
}

fn with_secret(bytes: &[u8]) -> Config {
    let mut config = parse(&[]).unwrap();
    config.hs256_secret = SecretVariable::from_bytes(bytes.to_vec());
    config
}

fn with_secret_file(content: &[u8]) -> (tempfile::NamedTempFile, Config) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let path = file.path().to_str().unwrap();
    let config = parse(&["--auth-hs256-secret-file", path]).unwrap();
    (file, config)
}

#[test]
fn defaults_suit_development() {
    let config = parse(&[]).unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.ops_listen, None);
    assert_eq!((config.issuer.as_str(), config.audience.as_str()), ("sockeye", "sockeye"));
    assert_eq!(config.clock_leeway, Duration::from_secs(5));
    assert!(!config.issue_tokens);
    assert!(config.names_no_key());
}

#[test]
fn every_setting_is_read() {
    let config = parse(&[
        "--auth-listen=0.0.0.0:1",
        "--auth-ops-listen=0.0.0.0:2",
        "--auth-hs256-secret-file=secret",
        "--auth-public-key-file=a.pem",
        "--auth-public-key-file=b.json,c.json",
        "--auth-issuer=https://id.example",
        "--auth-audience=chat",
        "--auth-clock-leeway=0s",
        "--auth-issue-tokens",
    ])
    .unwrap();

    assert_eq!(config.listen.to_string(), "0.0.0.0:1");
    assert_eq!(config.ops_listen.unwrap().to_string(), "0.0.0.0:2");
    assert_eq!(config.hs256_secret_file, Some(PathBuf::from("secret")));
    assert_eq!(config.public_key_files, ["a.pem", "b.json", "c.json"].map(PathBuf::from));
    assert_eq!(config.issuer, "https://id.example");
    assert_eq!(config.audience, "chat");
    assert_eq!(config.clock_leeway, Duration::ZERO);
    assert!(config.issue_tokens);
    assert!(!config.names_no_key());
}

#[test]
fn a_leeway_of_more_than_five_minutes_is_refused() {
    assert!(parse(&["--auth-clock-leeway=300s"]).is_ok());
    for text in ["301s", "1day", "5", "-1s", ""] {
        let error = parse(&[&format!("--auth-clock-leeway={text}")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{text}");
    }
}

#[test]
fn an_empty_issuer_or_audience_is_refused() {
    assert!(parse(&["--auth-issuer="]).is_err());
    assert!(parse(&["--auth-audience="]).is_err());
}

#[test]
fn a_secret_on_the_command_line_is_refused_without_quoting_it() {
    let error =
        parse(&["--auth-hs256-secret", "correct horse battery staple, twice over"]).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    assert!(error.to_string().contains("AUTH_HS256_SECRET"));
    assert!(!error.to_string().contains("horse"));
}

#[test]
fn a_secret_comes_from_the_variable_as_it_stands() {
    let secret = with_secret(b"\xff not even text, but more than 32 bytes\n").read_hs256_secret();

    assert_eq!(secret.unwrap().unwrap().expose(), b"\xff not even text, but more than 32 bytes\n");
}

#[test]
fn a_line_end_after_the_secret_in_a_file_does_not_count() {
    let secret = [b'x'; 32];
    for line_end in ["", "\n", "\r\n"] {
        let (_file, config) = with_secret_file(&[&secret, line_end.as_bytes()].concat());

        assert_eq!(config.read_hs256_secret().unwrap().unwrap().expose(), secret);
    }
    let (_file, config) = with_secret_file(&[&secret[1..], b"\n"].concat());
    assert!(matches!(config.read_hs256_secret(), Err(ReadSecretError::File { .. })));
}

#[test]
fn a_weak_secret_a_second_one_and_an_absent_file_are_refused() {
    assert!(matches!(
        with_secret(b"").read_hs256_secret(),
        Err(ReadSecretError::Variable(WeakSecretError::TooShort { length: 0 }))
    ));
    let (_file, mut both) = with_secret_file(&[b'x'; 32]);
    both.hs256_secret = SecretVariable::from_bytes(vec![b'x'; 32]);
    assert!(matches!(both.read_hs256_secret(), Err(ReadSecretError::Twice)));
    let absent = parse(&["--auth-hs256-secret-file=no/such/file"]).unwrap();
    assert!(matches!(absent.read_hs256_secret(), Err(ReadSecretError::Read { .. })));
}

#[test]
fn a_throwaway_secret_is_strong_new_each_time_and_switches_issuing_on() {
    let throwaway = || {
        let mut config = parse(&[]).unwrap();
        config.use_throwaway_secret().unwrap();
        assert!(config.issue_tokens && !config.names_no_key());
        config.read_hs256_secret().unwrap().unwrap().expose().to_vec()
    };

    assert_ne!(throwaway(), throwaway());
}

#[test]
fn the_debug_text_does_not_show_the_secret() {
    let text = format!("{:?}", with_secret(b"correct horse battery staple, twice over"));

    assert!(text.contains("SecretVariable(set)"), "{text}");
    assert!(!text.contains("horse"), "{text}");
}
