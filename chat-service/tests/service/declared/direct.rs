//! Events that go to no room: to the sockets of a user, of the sender, or of everyone.

use proto::chat::v1::publish_request::Target;

use super::{lobby, publish, start};
use crate::edge::all_announced;

#[tokio::test]
async fn what_goes_to_a_user_or_to_everyone_goes_over_every_link() {
    let (service, _file) = start().await;
    let mut ann = lobby(&service, "one", "ann").await;
    let mut bob = lobby(&service, "two", "bob").await;
    ann.next().await;
    let mut chat = service.chat().await;

    let to_ann = Target::User("sub-ann".to_owned());
    chat.publish(publish("notification", to_ann, r#"{"title":"t","x":1}"#)).await.unwrap();
    chat.publish(publish("notice", Target::Everyone(true), r#"{"text":"t"}"#)).await.unwrap();
    for edge in [&mut ann, &mut bob] {
        edge.expect(&[
            r#"emit to user sub-ann: notification [{"title":"t"}] volatile"#,
            r#"emit to everyone: notice [{"text":"t"}] volatile"#,
        ])
        .await;
    }

    ann.ask(1, 1, "poke", r#"[{"user":"sub-bob"}]"#).await;
    let poke = r#"emit to user sub-bob of test"#;
    ann.expect(&[
        &format!(r#"{poke} but [1]: poke [{{"user":{{"id":"ann"}}}}] volatile"#),
        "ack 1/1 [{}]",
    ])
    .await;
    bob.expect(&[&format!(r#"{poke}: poke [{{"user":{{"id":"ann"}}}}] volatile"#)]).await;

    ann.ask(1, 2, "read", r#"[{"upto":"m7"}]"#).await;
    let read = r#"read [{"user":{"id":"ann"},"upto":"m7"}] volatile"#;
    ann.expect(&[&format!("emit to user sub-ann of test but [1]: {read}"), "ack 1/2 [{}]"]).await;
    bob.expect(&[&format!("emit to user sub-ann of test: {read}")]).await;
}

#[tokio::test]
async fn what_goes_to_a_user_goes_only_where_it_has_sockets_once_all_are_announced() {
    let (service, _file) = start().await;
    let mut ann = service.edge("one").await;
    let mut bob = service.edge("two").await;
    for edge in [&mut ann, &mut bob] {
        edge.send(vec![all_announced()]).await;
    }
    ann.open(1, "ann").await;
    ann.open(2, "ann").await;
    bob.open(1, "bob").await;

    // To the other socket of the same user, and to no other link.
    ann.ask(1, 1, "read", r#"[{"upto":"m7"}]"#).await;
    let read = r#"read [{"user":{"id":"ann"},"upto":"m7"}] volatile"#;
    ann.expect(&[&format!("emit to user sub-ann of test but [1]: {read}"), "ack 1/1 [{}]"]).await;
    // Where there is none, nothing is sent.
    ann.close(2).await;
    ann.ask(1, 2, "read", r#"[{"upto":"m8"}]"#).await;
    ann.expect(&["ack 1/2 [{}]"]).await;
    ann.ask(1, 3, "poke", r#"[{"user":"sub-bob"}]"#).await;
    ann.expect(&["ack 1/3 [{}]"]).await;
    let poke = r#"emit to user sub-bob of test: poke [{"user":{"id":"ann"}}] volatile"#;
    bob.expect(&[poke]).await;

    bob.ask(1, 1, "read", "[{}]").await;
    bob.expect(&["ack 1/1 [{}]"]).await;
}

#[tokio::test]
async fn what_goes_to_a_user_reaches_a_link_whose_sockets_are_not_announced_yet() {
    let (service, _file) = start().await;
    let mut ann = service.edge("one").await;
    ann.open(1, "ann").await;
    let mut back = service.edge("two").await;

    ann.ask(1, 1, "poke", r#"[{"user":"sub-bob"}]"#).await;
    let poke = r#"emit to user sub-bob of test: poke [{"user":{"id":"ann"}}] volatile"#;
    back.expect(&[poke]).await;
}

#[tokio::test]
async fn what_goes_to_the_other_sockets_of_its_sender_finds_those_on_links_that_come_later() {
    let (service, _file) = start().await;
    let mut ann = service.edge("one").await;
    ann.send(vec![all_announced()]).await;
    ann.open(1, "ann").await;
    ann.ask(1, 1, "read", "[{}]").await;
    ann.expect(&["ack 1/1 [{}]"]).await;

    // It may have sockets of the same user, then has one, and at last has none.
    let mut other = service.edge("two").await;
    let read = r#"emit to user sub-ann of test: read [{"user":{"id":"ann"}}] volatile"#;
    ann.ask(1, 2, "read", "[{}]").await;
    ann.expect(&["ack 1/2 [{}]"]).await;
    other.expect(&[read]).await;
    other.open(1, "ann").await;
    other.send(vec![all_announced()]).await;
    other.ask(1, 1, "read", "[{}]").await;
    other.expect(&["ack 1/1 [{}]"]).await;
    ann.expect(&[read]).await;
    ann.ask(1, 3, "read", "[{}]").await;
    ann.expect(&["ack 1/3 [{}]"]).await;
    other.expect(&[read]).await;
    other.close(1).await;
    other.open(2, "bob").await;
    ann.ask(1, 4, "read", "[{}]").await;
    ann.expect(&["ack 1/4 [{}]"]).await;
    other.ask(2, 1, "read", "[{}]").await;
    other.expect(&["ack 2/1 [{}]"]).await;
}
