//! The authorization matrix: every role does everything in every room, as every kind of member, in every tenant, and what is
//! denied puts no byte on anybody's wire, but the error on that of whoever asked.

mod matrix;

use serde_json::{Value, json};

use self::matrix::Matrix;

/// Users of the second issuer are a tenant of their own, and its tokens say themselves what they allow.
const ISSUERS: &str = r#"
[[issuer]]
name = "https://id.example"
audience = "sockeye"
algorithms = ["HS256"]
hs256_secret_file = "secret"
claims = { tenant = "org", roles = "roles" }
[[issuer.grant]]
everyone = true
actions = ["join", "presence"]
rooms = ["org.{claim:org}"]
[[issuer.grant]]
roles = ["reader"]
actions = ["join", "presence", "history"]
rooms = ["news", "team.*"]
[[issuer.grant]]
roles = ["writer"]
actions = ["join"]
rooms = ["news", "team.*"]
[[issuer.grant]]
roles = ["writer"]
actions = ["publish"]
rooms = ["news", "elsewhere", "vault"]
events = ["mess*"]
[[issuer.grant]]
roles = ["owner"]
actions = ["join", "publish", "presence", "history"]
rooms = ["user:{subject}"]
[[issuer.grant]]
roles = ["moderator"]
actions = ["join", "publish", "presence", "history"]
rooms = ["*"]

[[issuer]]
name = "https://partner.example"
audience = "sockeye"
algorithms = ["HS256"]
hs256_secret_file = "secret"
tenant = "partner"
claims = { capabilities = "may" }
"#;

/// What the second issuer's tokens say: the same roles mean other things there.
fn capabilities(role: &str) -> Value {
    let all = ["join", "publish", "presence", "history"];
    match role {
        "writer" => json!([{"actions": all, "rooms": ["elsewhere"]}]),
        "owner" => json!([{"actions": ["join", "history"], "rooms": ["user:*"]}]),
        "moderator" => json!([{"actions": all, "rooms": ["*"]}]),
        _ => json!([]),
    }
}

/// Whatever tokens say, everybody may be in the lobby and at its own desk, nobody in the vault, and nobody waves in the news.
const NAMESPACES: &str = r#"
[[namespace."/chat".allow]]
rooms = ["lobby"]
actions = ["join", "presence"]
[[namespace."/chat".allow]]
rooms = ["lobby"]
actions = ["publish"]
events = ["typ*"]
[[namespace."/chat".allow]]
rooms = ["desk.{subject}"]
actions = ["join", "publish", "history"]
[[namespace."/chat".deny]]
rooms = ["vault"]
actions = ["join", "publish", "presence", "history"]
[[namespace."/chat".deny]]
rooms = ["news"]
actions = ["publish"]
events = ["wave"]

[namespace."/chat".event.wave]
audience = "room"
schema = { properties = { text = true } }
[namespace."/chat".event.alarm]
audience = "everyone"
from = "clients"
rate = { per_second = 1000 }
schema = { properties = { text = true } }
[namespace."/chat".event.nudge]
audience = "user"
from = "clients"
rate = { per_second = 1000 }
schema = { properties = { text = true } }
"#;

const TENANTS: [&str; 3] = ["acme", "zinc", "partner"];
const ROLES: [&str; 5] = ["guest", "reader", "writer", "owner", "moderator"];
const ROOMS: [&str; 8] =
    ["lobby", "news", "team.red", "user:owner", "desk.reader", "org.acme", "vault", "elsewhere"];
/// The last one changes who is a member.
const DEEDS: [&str; 6] = ["message", "typing", "wave", "presence", "history", "join"];
/// Those that go to no room.
const ROOMLESS: [&str; 2] = ["alarm", "nudge"];
const MEMBERSHIPS: [Membership; 5] = [
    Membership::Never,
    Membership::Member,
    Membership::Left,
    Membership::Kicked,
    Membership::Banned,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    Never,
    Member,
    Left,
    Kicked,
    Banned,
}

/// What is meant by all that, written down once more.
fn is_meant(tenant: &str, role: &str, deed: &str, room: &str) -> bool {
    let enters = ["join", "presence"].contains(&deed);
    let reads = enters || deed == "history";
    if room == "vault" || (room, deed) == ("news", "wave") {
        return false;
    }
    let by_rule = match room {
        "lobby" => enters || deed == "typing",
        "desk.reader" => role == "reader" && deed != "presence",
        _ => false,
    };
    let by_tenant = (tenant, room) == ("acme", "org.acme") && enters;
    let by_role = match (tenant, role) {
        (_, "moderator") => true,
        ("partner", "writer") => room == "elsewhere",
        ("partner", "owner") => room == "user:owner" && ["join", "history"].contains(&deed),
        ("partner", _) => false,
        (_, "reader") => ["news", "team.red"].contains(&room) && reads,
        (_, "writer") => match room {
            "news" => ["join", "message"].contains(&deed),
            "team.red" => deed == "join",
            // It may speak there, and cannot be there.
            _ => room == "elsewhere" && deed == "message",
        },
        (_, "owner") => room == "user:owner",
        (_, _) => false,
    };
    by_rule || by_tenant || by_role
}

/// How that is answered: with this error, or as asked.
fn answer_meant(is_meant: bool, deed: &str, membership: Membership) -> Option<&'static str> {
    match (membership, deed) {
        _ if !is_meant => Some("forbidden"),
        (Membership::Banned, _) => Some("banned"),
        (Membership::Member, _) | (_, "join" | "alarm" | "nudge") => None,
        (Membership::Never | Membership::Left | Membership::Kicked, _) => Some("not_a_member"),
    }
}

#[tokio::test]
async fn every_cell_of_the_authorization_matrix_is_as_meant_and_denied_ones_put_nothing_on_a_wire()
{
    let mut matrix = Matrix::start().await;
    for tenant in TENANTS {
        for role in ROLES {
            matrix.try_role(tenant, role).await;
        }
    }

    // Of whoever may not enter a room there are two kinds there: it never was a member, or is banned.
    assert_eq!((matrix.cells, matrix.denied), (2406, 2024));
}
