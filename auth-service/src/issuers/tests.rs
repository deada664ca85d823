//! Issuers side by side, and files that must be refused.

use std::fs;

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::claims::strict_validation;
use crate::signing::{HS256_SECRET, hs256, key_pairs, rs256};

mod grants;

const NOW_S: u64 = 1_800_000_000;
const RS256_HEADER: &str = r#"{"alg":"RS256","typ":"at+jwt"}"#;
const HS256_HEADER: &str = r#"{"alg":"HS256","typ":"at+jwt"}"#;
const TWO_ISSUERS: &str = r#"
    [[issuer]]
    name = "https://id.example"
    audience = "chat"
    algorithms = ["RS256"]
    types = ["at+jwt"]
    clock_leeway = "30s"
    public_key_files = ["rsa.pem"]
    claims = { name = "nickname", session = "session_id" }

    [[issuer]]
    name = "partner"
    audience = "rooms"
    algorithms = ["HS256"]
    hs256_secret_file = "secret"
"#;

fn directory_with(issuers: &str) -> TempDir {
    let directory = tempdir().unwrap();
    for (name, content) in [
        ("rsa.pem", key_pairs().rsa_pem().as_bytes()),
        ("p256.pem", key_pairs().p256_pem().as_bytes()),
        ("secret", HS256_SECRET),
        ("short", b"short"),
        ("empty", b"\n"),
        ("issuers.toml", issuers.as_bytes()),
    ] {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn read(issuers: &str) -> Result<Issuers, ReadIssuersError> {
    Issuers::read(&directory_with(issuers).path().join("issuers.toml"))
}

fn claims(issuer: &str, audience: &str) -> Value {
    json!({"iss": issuer, "aud": audience, "sub": "ada", "exp": NOW_S + 60})
}

fn outcome(token: &str) -> Result<Identity, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let issuers = read(TWO_ISSUERS).unwrap();
    runtime.block_on(issuers.verify(token, NOW_S * 1000)).map_err(|error| match error {
        VerifyError::Refused(refusal) => refusal,
        VerifyError::Undecided(outage) => panic!("{outage:?}"),
    })
}

fn of_id_example(claims: &Value) -> Result<Identity, Refusal> {
    outcome(&rs256(RS256_HEADER, &claims.to_string()))
}

fn of_partner(claims: &Value) -> Result<Identity, Refusal> {
    outcome(&hs256(HS256_HEADER, &claims.to_string(), HS256_SECRET))
}

#[test]
fn each_issuer_is_good_for_its_own_tokens_and_no_others() {
    let (ours, partners) = (claims("https://id.example", "chat"), claims("partner", "rooms"));

    assert_eq!(of_id_example(&ours).unwrap().issuer, "https://id.example");
    assert_eq!(of_partner(&partners).unwrap().issuer, "partner");
    assert_eq!(of_id_example(&partners), Err(Refusal::Algorithm));
    assert_eq!(of_partner(&ours), Err(Refusal::Algorithm));
    assert_eq!(of_partner(&claims("partner", "chat")), Err(Refusal::Audience));
    assert_eq!(of_id_example(&claims("https://id.example", "rooms")), Err(Refusal::Audience));
}

#[test]
fn a_token_of_nobody_we_know_is_refused() {
    for issuer in ["", "PARTNER", "partner ", "https://id.example/"] {
        assert_eq!(of_partner(&claims(issuer, "rooms")), Err(Refusal::Issuer), "{issuer:?}");
    }
    for issuer in [json!(null), json!(1), json!(["partner"])] {
        let mut claims = claims("partner", "rooms");
        claims["iss"] = issuer;
        assert_eq!(of_partner(&claims), Err(Refusal::MissingClaim));
    }
    for token in ["", "a.b", "e30.e30", "e30..", "e30.W10.", "e30.e30.e30.e30.e30"] {
        assert!(matches!(outcome(token), Err(Refusal::Malformed)), "{token}");
    }
}

#[test]
fn type_and_leeway_are_those_of_the_issuer() {
    let mut ours = claims("https://id.example", "chat");
    for header in [
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"RS256","typ":"JWT"}"#,
        r#"{"alg":"RS256","typ":""}"#,
        r#"{"alg":"RS256","typ":"application/"}"#,
    ] {
        let token = rs256(header, &ours.to_string());
        assert_eq!(outcome(&token), Err(Refusal::Malformed), "{header}");
    }
    for header in [r#"{"alg":"HS256","typ":""}"#, r#"{"alg":"HS256","typ":"application/"}"#] {
        let token = hs256(header, &claims("partner", "rooms").to_string(), HS256_SECRET);
        assert_eq!(outcome(&token), Err(Refusal::Malformed), "{header}");
    }
    let mut partners = claims("partner", "rooms");
    (ours["exp"], partners["exp"]) = (json!(NOW_S - 20), json!(NOW_S - 20));
    assert!(of_id_example(&ours).is_ok());
    assert_eq!(of_partner(&partners), Err(Refusal::Expired));
}

#[test]
fn name_and_session_are_in_the_claims_that_the_issuer_says() {
    let named = |mut claims: Value| {
        claims["nickname"] = json!("Countess");
        claims["name"] = json!("Ada");
        claims["session_id"] = json!("1");
        claims["sid"] = json!("2");
        claims
    };

    let ours = of_id_example(&named(claims("https://id.example", "chat"))).unwrap();
    let partners = of_partner(&named(claims("partner", "rooms"))).unwrap();

    assert_eq!(ours.name.as_deref(), Some("Countess"));
    assert_eq!(ours.marks.session.as_deref(), Some("1"));
    assert_eq!(partners.name.as_deref(), Some("Ada"));
    assert_eq!(partners.marks.session.as_deref(), Some("2"));
}

/// The tenant of a token of `partner` with the claim, in a file that says this of its tenant.
fn tenant_with(setting: &str, claim: Value) -> Result<String, Refusal> {
    let issuers = read(&format!("{TWO_ISSUERS}\n{setting}")).unwrap();
    let partner = issuers.list.iter().find(|issuer| issuer.rules.issuer == "partner").unwrap();
    let mut claims = claims("partner", "rooms");
    claims["org"] = claim;
    let claims = claims.to_string();
    strict_validation(claims.as_bytes(), &partner.rules, NOW_S * 1000)
        .map(|identity| identity.tenant)
}

#[test]
fn an_issuer_is_a_tenant_unless_it_says_otherwise() {
    let of = |setting| tenant_with(setting, json!("other"));

    assert_eq!(of("").as_deref(), Ok("partner"));
    assert_eq!(of("tenant = 'acme'").as_deref(), Ok("acme"));
    assert_eq!(of("tenant = ''").as_deref(), Ok(""), "the default tenant");
    assert_eq!(of("claims = { tenant = 'org' }").as_deref(), Ok("other"));
}

#[test]
fn a_token_that_must_name_its_tenant_and_does_not_is_refused() {
    let of = |claim| tenant_with("claims = { tenant = 'org' }", claim);

    for claim in [json!(null), json!(""), json!(7), json!(["acme"]), json!("a\nb")] {
        assert_eq!(of(claim.clone()), Err(Refusal::Malformed), "{claim}");
    }
    assert_eq!(
        tenant_with("claims = { tenant = 'organization' }", json!("acme")),
        Err(Refusal::MissingClaim),
    );
}

#[test]
fn a_tenant_that_could_not_be_one_is_refused_at_the_start() {
    let refused = |setting: &str| {
        let error = read(&format!("{TWO_ISSUERS}\n{setting}")).unwrap_err().to_string();
        error.rsplit_once("(\"partner\"): ").unwrap().1.to_owned()
    };
    let bad = "its tenant, `tenant` or else `name`, must have at most 128 bytes and no control characters";

    assert_eq!(refused("tenant = \"a\\n\""), bad);
    assert_eq!(refused(&format!("tenant = '{}'", "x".repeat(129))), bad);
    assert_eq!(
        refused("tenant = 'acme'\nclaims = { tenant = 'org' }"),
        "it has both `tenant` and `claims.tenant`",
    );
    assert_eq!(refused("claims = { tenant = '' }"), "`claims.tenant` is empty");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let error = read(
        r#"
        [[issuer]]
        name = "a"
        audience = ""
        algorithms = ["RS256", "none"]
        types = []
        clock_leeway = "1h"
        public_key_files = ["p256.pem"]

        [[issuer]]
        name = "a"
        audience = "chat"
        algorithms = []

        [[issuer]]
        name = ""
        audience = "chat"
        algorithms = ["HS256"]
        hs256_secret_file = "short"
        claims = { session = "" }

        [[issuer]]
        name = "d"
        audience = "chat"
        algorithms = ["RS256"]
        public_key_files = ["missing.pem"]
        "#,
    );

    let text = error.unwrap_err().to_string();
    let text: Vec<_> = text.lines().skip(1).map(str::trim).collect();
    let expected = [
        r#"issuer 1 ("a"): `audience` is empty"#,
        r#"issuer 1 ("a"): `clock_leeway`: it is longer than 5m"#,
        r#"issuer 1 ("a"): `algorithms`: "none" is none of HS256, RS256, ES256 and EdDSA"#,
        r#"issuer 1 ("a"): `types` must list media types as `typ` has them, or "" for tokens without one"#,
        r#"issuer 1 ("a"): it has a key of ES256, which `algorithms` does not list"#,
        r#"issuer 1 ("a"): `algorithms` lists RS256, and there is no key of it"#,
        r#"issuer 2 ("a"): another one has this name"#,
        r#"issuer 2 ("a"): `algorithms` is empty"#,
        r#"issuer 2 ("a"): it has none of `hs256_secret_file`, `public_key_files`, `jwks_url`, `discovery` and `introspection`"#,
        r#"issuer 3 (""): `name` is empty"#,
        r#"issuer 3 (""): `claims.session` is empty"#,
        r#"issuer 3 (""): `hs256_secret_file`: the secret in "#,
        r#"issuer 4 ("d"): the keys are refused: "#,
    ];
    assert_eq!(text.len(), expected.len(), "{text:#?}");
    for (line, expected) in text.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}

#[test]
fn a_file_with_what_we_do_not_know_or_with_nobody_is_refused() {
    for text in
        ["[[issuer]]", "issuer = 1", "[[issuers]]", "[", &TWO_ISSUERS.replace("types", "typ")]
    {
        let error = read(text).unwrap_err();
        assert!(matches!(error, ReadIssuersError::Parse { .. }), "{text}: {error:?}");
    }
    assert!(matches!(read("").unwrap_err(), ReadIssuersError::Empty { .. }));
    let missing = Issuers::read(std::path::Path::new("no-such-file")).unwrap_err();
    assert!(matches!(missing, ReadIssuersError::Read { .. }), "{missing:?}");
}

/// Returns what is wrong with an issuer that has `settings` beside the name, the audience and the algorithm.
fn problems_with(algorithm: &str, settings: &str) -> Vec<String> {
    let text = format!(
        "[[issuer]]\nname = 'https://id.example'\naudience = 'chat'\nalgorithms = ['{algorithm}']\n{settings}"
    );
    match read(&text) {
        Ok(_) => Vec::new(),
        Err(error) => error
            .to_string()
            .lines()
            .skip(1)
            .map(|line| line.trim().replacen(r#"issuer 1 ("https://id.example"): "#, "", 1))
            .collect(),
    }
}

#[test]
fn published_keys_are_at_a_url_that_may_be_asked() {
    let plain = "jwks_url = 'http://127.0.0.1:1/keys'\nallow_http_on_loopback = true\n";

    assert_eq!(problems_with("RS256", plain), [""; 0]);
    for (settings, expected) in [
        (
            "jwks_url = 'http://127.0.0.1:1/keys'",
            "`jwks_url`: it is not https (http is for 127.0.0.1 and [::1], with `allow_http_on_loopback`)",
        ),
        ("jwks_url = ''", "`jwks_url`: it is not a URL of at most 2048 bytes"),
        (
            "jwks_url = 'https://ada:canary@id.example/'",
            "`jwks_url`: it has a user or a password in it",
        ),
        ("jwks_url = 'https://id.example/'\nca_file = 'secret'", "`ca_file`: "),
        (
            "jwks_refresh = '1m'\npublic_key_files = ['rsa.pem']",
            "`jwks_refresh` is for issuers with a URL of keys",
        ),
        (
            "jwks_max_age = '1m'\npublic_key_files = ['rsa.pem']",
            "`jwks_max_age` is for issuers with a URL of keys",
        ),
        (
            "ca_file = 'rsa.pem'\npublic_key_files = ['rsa.pem']",
            "`ca_file` is for issuers with a URL",
        ),
        (
            "allow_http_on_loopback = true\npublic_key_files = ['rsa.pem']",
            "`allow_http_on_loopback` is for issuers with a URL",
        ),
    ] {
        let problems = problems_with("RS256", settings);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(expected), "{problems:?}");
        assert!(!problems[0].contains("canary"), "{problems:?}");
    }
    for (settings, expected) in [
        (
            "public_key_files = ['rsa.pem']",
            "it has more than one of key files, `jwks_url`, `discovery` and `introspection`",
        ),
        (
            "discovery = true",
            "it has more than one of key files, `jwks_url`, `discovery` and `introspection`",
        ),
        ("jwks_refresh = '999ms'", "`jwks_refresh` must be a duration from 1s to 1h"),
        ("jwks_refresh = '61m'", "`jwks_refresh` must be a duration from 1s to 1h"),
        ("jwks_refresh = 'soon'", "`jwks_refresh` must be a duration from 1s to 1h"),
        ("jwks_max_age = '25h'", "`jwks_max_age` must be a duration from 2s to 24h"),
        (
            "jwks_refresh = '301s'",
            "`jwks_max_age` must be at least twice `jwks_refresh`, so that one fetch may fail",
        ),
    ] {
        assert_eq!(problems_with("RS256", &format!("{plain}{settings}")), [expected]);
    }
    assert_eq!(problems_with("RS256", &format!("{plain}jwks_refresh = '300s'")), [""; 0]);
    assert_eq!(
        problems_with("HS256", plain),
        ["`algorithms` lists HS256, whose keys are never published"],
    );
}

#[test]
fn discovery_needs_an_issuer_that_is_an_address() {
    let problems = |name: &str, settings: &str| {
        let text = format!(
            "[[issuer]]\nname = '{name}'\naudience = 'chat'\nalgorithms = ['RS256']\ndiscovery = true\n{settings}"
        );
        read(&text).err().map(|error| error.to_string())
    };

    let plain = "allow_http_on_loopback = true";
    assert_eq!(problems("http://127.0.0.1:1", plain), None);
    for (name, expected) in [
        ("sockeye", "`name`: it is not a URL"),
        ("http://id.example", "`name`: it is not https"),
        ("http://127.0.0.1:1/?tenant=a", "`name`: it has a query"),
    ] {
        let text = problems(name, plain).unwrap();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn an_issuer_that_is_asked_has_an_address_and_credentials_and_no_keys() {
    let good = "introspection = { url = 'http://127.0.0.1:1/i', client_id = 'edge', client_secret_file = 'short' }\n\
                allow_http_on_loopback = true\n";
    let issuer = "[[issuer]]\nname = 'https://id.example'\naudience = 'chat'\n";
    let problems = |text: String| match read(&text) {
        Ok(_) => Vec::new(),
        Err(error) => {
            error.to_string().lines().skip(1).map(|line| line.trim().to_owned()).collect()
        }
    };

    assert_eq!(problems(format!("{issuer}{good}")), [""; 0]);
    for (text, expected) in [
        (format!("{good}algorithms = ['RS256']"), "`algorithms` is for issuers with keys"),
        (format!("{good}types = ['JWT']"), "`types` is for issuers with keys"),
        (format!("{good}jwks_refresh = '1m'"), "`jwks_refresh` is for issuers with a URL of keys"),
        (format!("{good}scopes = ['a b']"), "`scopes` must list names without blanks"),
        (format!("{good}scopes = ['']"), "`scopes` must list names without blanks"),
        (
            format!("{good}public_key_files = ['rsa.pem']"),
            "it has more than one of key files, `jwks_url`, `discovery` and `introspection`",
        ),
        (good.replace("127.0.0.1", "id.example"), "`introspection.url`: it is not https"),
        (good.replace("'edge'", "''"), "`introspection.client_id` is empty"),
        (good.replace("short", "empty"), "`introspection.client_secret_file` is empty"),
        (good.replace("short", "missing"), "`introspection.client_secret_file`: "),
        (
            good.replace(" }", ", cache = '6m' }"),
            "`introspection.cache` must be a duration from 0s to 5m",
        ),
    ] {
        let problems = problems(format!("{issuer}{text}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    }
    let second = issuer.replace("id", "other");
    assert_eq!(
        problems(format!("{issuer}{good}{second}{good}")),
        [
            "issuer 2 (\"https://other.example\"): another one has `introspection`, and a token must not be shown to the wrong one"
        ],
    );
}
