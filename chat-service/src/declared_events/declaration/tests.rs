//! What a file may say of events, and what it is told when it says something else.

use std::os::unix::fs::symlink;

use serde_json::value::RawValue;

use super::*;
use crate::{
    declared_events::{Sender, data::DataError},
    room_key::{Realm, RoomKey},
    toml_file::TomlFile,
    user::User,
};

fn read_at(path: &Path, text: &str) -> (DeclaredEvents, Vec<String>) {
    let mut file = TomlFile::new(path, text);
    let mut fields = file.fields();
    let events = read_events(&mut file, &mut fields, &mut 0);
    fields.finish(&mut file);
    let problems = file.finish().err().map(|error| error.to_string()).unwrap_or_default();
    let problems = problems.split("; ").filter(|problem| !problem.is_empty());
    (events, problems.map(str::to_owned).collect())
}

fn problems(text: &str) -> Vec<String> {
    read_at(Path::new("ns.toml"), text).1
}

fn event(text: &str) -> Arc<DeclaredEvent> {
    let (events, problems) = read_at(Path::new("ns.toml"), text);
    assert_eq!(problems, [""; 0], "{text}");
    Arc::clone(events.iter().next().unwrap())
}

const CURSOR: &str = r#"
[event.cursor]
audience = "room"
retain = { key = "user" }
rate = { per_second = 30, burst = 60 }

[event.cursor.schema]
required = ["x", "y"]

[event.cursor.schema.properties]
x = { type = "number", minimum = 0.0, maximum = 1 }
y = { type = "number" }
name = { type = "string", maxLength = 20 }
"#;

#[test]
fn a_declaration_says_little_where_the_defaults_will_do() {
    let event = event("[event.move]\naudience = 'room'\nschema = { properties = { x = true } }");

    assert_eq!((event.audience, event.from), (Audience::Room, From::Clients));
    assert_eq!((event.is_logged, event.echoes), (false, false));
    assert_eq!((event.rate, &event.retain), (None, &None));
    assert!(event.is_public("x") && !event.is_public("y"));
}

#[test]
fn a_declaration_may_say_all() {
    let cursor = event(CURSOR);
    assert_eq!(cursor.rate, Some(Rate { per_second: 30, burst: 60 }));
    assert_eq!(cursor.retain, Some(Retain::ByUser));

    let price = event(
        "[event.price]
        audience = 'room'
        from = 'services'
        logged = true
        retain = { key = 'symbol', count_max = 10, cleared_by = 'delisted' }
        public = ['symbol', 'price', 'delisted']
        schema = { required = ['symbol'], properties = { symbol = true, price = true, delisted = true, source = true } }",
    );
    assert_eq!((price.from, price.is_logged, price.echoes), (From::Services, true, true));
    let count_max = NonZeroUsize::new(10).unwrap();
    let (field, cleared_by) = ("symbol".into(), Some("delisted".into()));
    assert_eq!(price.retain, Some(Retain::ByField { field, count_max, cleared_by }));
    assert!(price.clears(br#"{"symbol":"A","delisted":true}"#));
    for other in [r#"{"symbol":"A"}"#, r#"{"delisted":false}"#, r#"{"delisted":"true"}"#, "["] {
        assert!(!price.clears(other.as_bytes()), "{other}");
    }
    assert!(!price.is_public("source"));
}

#[test]
fn clients_reach_strangers_only_where_that_is_said() {
    for audience in ["user", "everyone"] {
        let text = format!("[event.hey]\naudience = '{audience}'\nschema = {{}}");
        assert_eq!(event(&text).from, From::Services);
        assert_eq!(
            problems(&format!("{text}\nfrom = 'clients'")),
            ["ns.toml:1: what clients may send to any user or to everyone needs a rate"]
        );
    }
    assert_eq!(event("[event.hey]\naudience = 'sender'\nschema = {}").from, From::Clients);
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_line() {
    assert_eq!(
        problems(
            r#"
[event.disconnect]
audience = "room"
schema = {}
[event.message]
audience = "rooms"
schema = {}
[event.a]
audience = "room"
retian = true
schema = { properties = { position = {}, b = { minimum = inf } } }
schema_file = "a.json"
[event.b]
audience = "user"
logged = true
echo = false
rate = { per_second = 0 }
retain = true
public = ["x", "y"]
schema = { properties = { x = { type = "nubmer" } } }
[event.c]
audience = "user"
logged = true
echo = false
retain = true
public = ["x", "y"]
schema = { properties = { x = true, at = true } }
[event.d]
"#
        ),
        [
            "ns.toml:2: Socket.IO reserves the name disconnect",
            "ns.toml:5: message is an event of the service itself",
            "ns.toml:5: message: audience must be room, user, sender or everyone",
            "ns.toml:6: audience: unknown variant `rooms`, expected one of `room`, `user`, `sender`, `everyone`",
            "ns.toml:8: either schema or schema_file is needed",
            "ns.toml:10: unknown field `retian`",
            "ns.toml:17: rate: invalid value: integer `0`, expected a nonzero u32",
            "ns.toml:20: schema/properties/x/type: \"nubmer\" is not valid under any of the schemas listed in the 'anyOf' keyword",
            "ns.toml:21: schema describes at, which the service itself says",
            "ns.toml:23: logged needs the namespace to say inbox_issuer: whose users have an inbox",
            "ns.toml:24: echo is for what clients send",
            "ns.toml:24: what is logged goes to everyone in the room, its sender too",
            "ns.toml:25: retain is for what goes to a room",
            "ns.toml:26: public lists y, which the schema does not describe",
            "ns.toml:28: either schema or schema_file is needed",
            "ns.toml:28: d: audience must be room, user, sender or everyone",
        ]
    );
}

#[test]
fn what_is_kept_for_a_user_says_whose_users_they_are() {
    let note = "[event.note]\naudience = 'user'\nschema = {}";
    let kept = format!("inbox_issuer = 'idp'\n{note}\nlogged = true");
    let (events, wrong) = read_at(Path::new("ns.toml"), &kept);
    let user = |issuer| User::parse("ann", issuer, b"{}").unwrap();

    assert_eq!((wrong, events.inboxes.are_kept()), (vec![], true));
    assert!(events.get("note").unwrap().goes_to_inbox());
    let inbox_of = |tenant| RoomKey::inbox(Realm { tenant, namespace: "/a" }, "ann").ok();
    assert_eq!(events.inboxes.of("/a", &user("idp")), inbox_of(""));
    let tenants = User::parse_of("acme", ("ann", "idp"), b"{}").unwrap();
    assert_eq!(events.inboxes.of("/a", &tenants), inbox_of("acme"));
    assert_eq!(events.inboxes.of("/a", &user("another")), None);
    for (text, problem) in [
        (format!("inbox_issuer = 'idp'\n{note}"), "1: inbox_issuer means nothing without"),
        (format!("inbox_issuer = 7\n{note}"), "1: inbox_issuer: invalid type"),
        (kept.replace("'idp'", "''"), "1: inbox_issuer must not be empty"),
        (kept.replace("schema = {}", ""), "2: either schema or schema_file is needed"),
        (format!("{note}\nlogged = true"), "4: logged needs the namespace to say inbox_issuer"),
        (
            format!("{}\nlogged = true", note.replace("'user'", "'sender'")),
            "4: logged is for what goes to a room or to a user",
        ),
    ] {
        let problems = problems(&text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].starts_with(&format!("ns.toml:{problem}")), "{problems:?}");
    }
}

#[test]
fn one_declaration_must_not_contradict_itself() {
    let price = |terms: &str| {
        let schema =
            "schema = { required = ['a', 'b'], properties = { a = true, b = true, c = true } }";
        problems(&format!("[event.price]\naudience = 'room'\n{schema}\n{terms}"))
    };
    for (terms, expected) in [
        ("retain = { key = 'c' }", "key c must be public, and the schema must require it"),
        (
            "public = ['b']\nretain = { key = 'a' }",
            "key a must be public, and the schema must require it",
        ),
        ("retain = { key = 'a', count_max = 1001 }", "count_max must be at most 1000"),
        (
            "retain = { key = 'user', count_max = 9 }",
            "count_max and cleared_by are not for values kept by user",
        ),
        (
            "retain = { key = 'user', cleared_by = 'a' }",
            "count_max and cleared_by are not for values kept by user",
        ),
        (
            "retain = { key = 'a', cleared_by = 'a' }",
            "cleared_by a must be public, and not the key",
        ),
        (
            "public = ['a']\nretain = { key = 'a', cleared_by = 'c' }",
            "cleared_by c must be public, and not the key",
        ),
        (
            "retain = { key = 'user' }\nlogged = true",
            "values are kept by user where clients send them and none is logged",
        ),
        (
            "retain = { key = 'user' }\nfrom = 'services'",
            "values are kept by user where clients send them and none is logged",
        ),
        ("rate = { per_second = 1 }\nfrom = 'services'", "rate is for what clients send"),
        ("rate = { per_second = 100001 }", "per_second must be at most 100000"),
        (
            "rate = { per_second = 1, brust = 2 }",
            "rate: unknown field `brust`, expected `per_second` or `burst`",
        ),
        ("public = 'a'", "public: invalid type: string \"a\", expected a sequence"),
        (
            "retain = { kye = 'a' }",
            "retain: unknown field `kye`, expected one of `key`, `count_max`, `cleared_by`",
        ),
        ("retain = 1", "retain: invalid type: integer `1`, expected a boolean"),
    ] {
        let problems = price(terms);
        assert_eq!(problems.len(), 1, "{terms}: {problems:?}");
        assert!(problems[0].ends_with(expected), "{terms}: {problems:?}");
    }
    let twice = problems("[event.a]\n[event.a]");
    assert!(twice.contains(&"ns.toml:2: duplicate key".to_owned()), "{twice:?}");
}

#[test]
fn a_schema_comes_from_the_folder_of_the_file_or_from_below_it() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "{}").unwrap();
    fs::create_dir(folder.path().join("schemas")).unwrap();
    fs::write(folder.path().join("schemas/a.json"), r#"{"properties":{"x":{"maximum":1}}}"#)
        .unwrap();
    fs::write(folder.path().join("broken.json"), "{").unwrap();
    symlink(outside.path(), folder.path().join("link.json")).unwrap();
    let read = |name: &str| {
        let text = format!("[event.a]\naudience = 'room'\nschema_file = '{name}'");
        read_at(&folder.path().join("ns.toml"), &text)
    };

    let (events, problems) = read("schemas/a.json");
    assert_eq!(problems, [""; 0]);
    assert!(events.get("a").unwrap().is_public("x"));
    let outside = outside.path().to_str().unwrap();
    for (name, expected) in [
        ("../a.json", "must be a file in this folder or below it"),
        (outside, "must be a file in this folder or below it"),
        ("link.json", "must be a file in this folder or below it"),
        ("none.json", "cannot be read"),
        ("broken.json", "is not JSON"),
    ] {
        let (_, problems) = read(name);
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert!(problems[0].contains(expected), "{name}: {problems:?}");
    }
}

fn refusal(event: &DeclaredEvent, body: &str) -> String {
    let body: &RawValue = serde_json::from_str(body).unwrap();
    event.read(body, Sender::Client).unwrap_err().to_string()
}

#[test]
fn only_public_fields_leave_and_as_they_were_written() {
    let cursor = event(CURSOR);
    let body = r#"{ "room":"lobby", "x": 1.0e0, "secret":"s", "n\u0061me":"\u00e9", "y": 12345678901234567890123 }"#;
    let body: &RawValue = serde_json::from_str(body).unwrap();

    let (data, address) = cursor.read(body, Sender::Client).unwrap();

    assert_eq!(&*data.fields, r#""x":1.0e0,"name":"\u00e9","y":12345678901234567890123"#);
    assert_eq!(address.room.unwrap().get(), "\"lobby\"");
    assert!(address.user.is_none() && address.id.is_none());
}

#[test]
fn data_is_refused_without_being_repeated() {
    let cursor = event(CURSOR);
    let deep = format!(r#"{{"x":0,"y":0,"z":{}{}}}"#, "[".repeat(40), "]".repeat(40));
    let large = format!(r#"{{"x":0,"y":0,"z":"{}"}}"#, "s".repeat(64 * 1024));
    for (body, expected) in [
        ("[]", "the body must be an object"),
        (r#"{"x":0}"#, "/y is missing"),
        (r#"{"x":0,"y":"secret"}"#, "/y does not satisfy type"),
        (r#"{"x":2,"y":0}"#, "/x does not satisfy maximum"),
        (&large, "the body must have at most 65536 bytes"),
    ] {
        assert_eq!(refusal(&cursor, body), expected, "{body:.100}");
    }
    for body in [&deep, r#"{"x":0,"x":0,"y":0}"#, r#"{"room":"a","room":"b","x":0,"y":0}"#] {
        assert_eq!(refusal(&cursor, body), DataError::NotPlain.to_string(), "{body}");
    }
}

#[test]
fn the_value_of_the_key_says_what_is_replaced() {
    let price = event(
        "[event.price]
        audience = 'room'
        retain = { key = 'symbol' }
        schema = { required = ['symbol'], properties = { symbol = true } }",
    );
    let key = |body: &str| {
        let body: &RawValue = serde_json::from_str(body).unwrap();
        price.read(body, Sender::Service).map(|(data, _)| data.key.unwrap())
    };

    assert_eq!(key(r#"{"symbol":"\u0041"}"#).as_deref(), Ok("\"A\""));
    assert_eq!(key(r#"{"symbol":1}"#).as_deref(), Ok("1"));
    assert_eq!(key(r#"{"symbol":[]}"#), Err(DataError::Key("symbol".into())));
    assert_eq!(
        key(&format!(r#"{{"symbol":"{}"}}"#, "x".repeat(255))),
        Err(DataError::Key("symbol".into()))
    );
}
