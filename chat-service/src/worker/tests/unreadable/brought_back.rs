//! Those who are brought back into such a room, and those who are there already.

use super::*;

#[tokio::test]
async fn a_socket_that_is_announced_is_told_once_that_it_missed_something_and_goes_on() {
    for damage in [Damage::Entries, Damage::All] {
        let mut world = World::new();
        let seen = world.publish("seen").await.unwrap();
        world.publish("missed").await.unwrap();
        world.damage(damage);

        let restored = world.restore(seen).await;
        let led = world.catch_up().await;
        let led_again = world.catch_up().await;

        assert!(!restored.iter().any(|line| line.starts_with("exception")), "{restored:?}");
        assert!(is_told_of_gap(&led), "{led:?}");
        assert_eq!(led_again, [""; 0]);
        assert!(world.is_member() && !world.is_catching_up());
        world.damage(Damage::Nothing);
        world.publish("next").await.unwrap();
        let told = world.told();
        assert!(told.len() == 1 && told[0].contains("next"), "{told:?}");
    }
}

#[tokio::test]
async fn a_socket_that_is_announced_misses_nothing_of_a_log_that_can_be_read_again() {
    let mut world = World::new();
    let seen = world.publish("seen").await.unwrap();
    world.publish("first").await.unwrap();
    world.damage(Damage::All);
    world.restore(seen).await;
    world.damage(Damage::Nothing);
    world.publish("second").await.unwrap();

    let led = world.catch_up().await;

    assert!(led.len() == 2 && led[0].contains("first") && led[1].contains("second"), "{led:?}");
    assert!(!world.is_catching_up());
}

#[tokio::test]
async fn a_socket_whose_position_is_gone_goes_on_at_the_end_though_nobody_knows_where_it_was() {
    let mut world = World::new();
    let seen = world.publish("seen").await.unwrap();
    for _ in 0..=COUNT_MAX.get() {
        world.publish("missed").await.unwrap();
    }
    world.damage(Damage::All);
    world.restore(seen).await;
    world.damage(Damage::Nothing);

    let led = world.catch_up().await;

    assert!(is_told_of_gap(&led), "{led:?}");
    assert!(!world.is_catching_up());
}

#[tokio::test]
async fn who_has_been_given_everything_is_not_given_it_again_when_another_comes_back() {
    for is_read_in_time in [true, false] {
        let mut world = World::new();
        world.join(None).await;
        let first = world.publish("first").await.unwrap();
        world.told();
        world.damage(Damage::All);
        world.restore_socket(world.other_socket(2), first).await;
        if is_read_in_time {
            world.damage(Damage::Nothing);
            world.publish("second").await.unwrap();
        }
        assert_eq!(world.told(), [""; 0]);

        let mut led = world.catch_up().await;

        // What the one misses that was here, it is told of; the other is given it.
        let of_gap = led.remove(0);
        assert!(is_told_of_gap(&[of_gap]));
        if is_read_in_time {
            assert!(led.len() == 1 && led[0].contains("second"), "{led:?}");
        } else {
            assert!(is_told_of_gap(&led), "{led:?}");
            world.damage(Damage::Nothing);
        }
        assert_eq!(world.catch_up().await, [""; 0]);
        assert!(!world.is_catching_up());
        world.publish("next").await.unwrap();
        let told = world.told();
        assert!(told.len() == 1 && told[0].contains("next"), "{told:?}");
    }
}

#[tokio::test]
async fn who_comes_to_stand_where_others_were_told_of_a_gap_is_told_of_the_next() {
    let mut world = World::new();
    let first = world.publish("first").await.unwrap();
    world.restore(Position { epoch: first.epoch + 1, ..first }).await;
    assert!(is_told_of_gap(&world.catch_up().await) && world.is_catching_up());
    world.restore_socket(world.other_socket(2), Position::start(first.epoch)).await;
    for _ in 0..=COUNT_MAX.get() {
        world.publish("more").await.unwrap();
    }

    let led = world.catch_up().await;

    assert!(led.iter().any(|line| is_told_of_gap(std::slice::from_ref(line))), "{led:?}");
}

#[tokio::test]
async fn who_goes_on_at_an_end_that_cannot_be_read_is_told_again_of_what_it_misses_until_it_can() {
    let mut world = World::new();
    let seen = world.publish("seen").await.unwrap();
    world.join(None).await;
    for _ in 0..2 {
        world.publish(&"x".repeat(PAGE_BYTES_MAX)).await.unwrap();
    }
    world.told();
    world.damage(Damage::Ends);
    world.restore_socket(world.other_socket(2), seen).await;
    let led = world.catch_up().await;
    assert!(is_told_of_gap(&led[..1]) && led.len() == 2 && world.is_catching_up(), "{led:?}");
    world.damage(Damage::Nothing);
    world.publish("unseen").await.unwrap();

    let led = world.catch_up().await;

    assert!(is_told_of_gap(&led[..1]) && led.len() == 2, "{led:?}");
    let led = world.catch_up().await;
    assert!(led.len() == 1 && led[0].contains("unseen"), "{led:?}");
    assert!(!world.is_catching_up());
}

#[tokio::test]
async fn who_moves_into_a_room_that_others_catch_up_in_is_not_given_what_it_had() {
    let mut world = World::new();
    let first = world.publish("first").await.unwrap();
    world.restore(first).await;
    world.damage(Damage::All);
    let ticket = world.outbox.extra_ticket();
    world.tell(Command::SocketMoved(ticket, world.other_socket(2), room())).await;
    world.damage(Damage::Nothing);

    let led = world.catch_up().await;

    assert!(is_told_of_gap(&led), "{led:?}");
    assert!(!world.is_catching_up());
}

#[tokio::test]
async fn a_socket_that_moves_here_stays_in_its_rooms() {
    let mut world = World::new();
    world.damage(Damage::All);
    let ticket = world.outbox.extra_ticket();
    let moved = Command::SocketMoved(ticket, Arc::clone(&world.socket), room());

    world.tell(moved).await;

    assert!(world.is_member());
    world.damage(Damage::Nothing);
    world.publish("next").await.unwrap();
    let told = world.told();
    assert!(told.len() == 1 && told[0].contains("next"), "{told:?}");
}
