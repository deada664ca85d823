//! What such a room's users are known to have got.

use super::*;

const FOLLOWING: &str = "[namespace.'/chat']\ndelivery_watermark = true";

async fn following() -> World {
    let mut world = World::with(FOLLOWING, Durability::Memory);
    world.publish("before").await.unwrap();
    world.join(None).await;
    world
}

async fn deliver(world: &mut World, position: Position) {
    let delivered = Delivered {
        ticket: world.outbox.extra_ticket(),
        room: room(),
        position: position.to_string(),
        users: vec![Arc::clone(&world.socket.user)],
    };
    world.tell(Command::Delivered(Box::new(delivered))).await;
}

async fn is_behind(world: &mut World, position: Position) -> bool {
    let (behind, after) = (Some(position), String::new());
    let asked = DeliveredTo { room: room(), behind, users: Vec::new(), after, limit: 10 };
    !world.worker.delivered_to(asked, 0).await.unwrap().users.is_empty()
}

async fn fail_to_refill(world: &mut World, after: Position) {
    world.damage(Damage::All);
    let refill = Refill {
        ticket: world.outbox.extra_ticket(),
        socket: Arc::clone(&world.socket),
        room: room(),
        after: after.to_string(),
        bytes_max: 1000,
    };
    let told = world.tell(Command::Refill(Box::new(refill))).await;
    assert!(is_told_of_gap(&told[..1]), "{told:?}");
    world.damage(Damage::Nothing);
}

async fn fail_to_lead(world: &mut World, after: Position) {
    let ticket = world.outbox.extra_ticket();
    let closed = Command::SocketClosed(ticket, world.socket.key, Departure::Lost);
    world.tell(closed).await;
    world.restore(after).await;
    world.damage(Damage::All);
    let told = world.catch_up().await;
    assert!(is_told_of_gap(&told), "{told:?}");
    world.damage(Damage::Nothing);
}

#[tokio::test]
async fn who_goes_on_where_nobody_can_tell_is_not_taken_to_have_got_what_it_missed() {
    for (is_refilled, comes_late) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut world = following().await;
        let seen = world.publish("seen").await.unwrap();
        let late = world.publish("late").await.unwrap();
        deliver(&mut world, seen).await;
        let missed = world.publish("missed").await.unwrap();
        world.told();
        match is_refilled {
            true => fail_to_refill(&mut world, late).await,
            false => fail_to_lead(&mut world, late).await,
        }

        // What arrived before it missed something may be reported after that.
        if comes_late {
            deliver(&mut world, late).await;
        }
        for text in ["next", "one more"] {
            let next = world.publish(text).await.unwrap();
            deliver(&mut world, next).await;
        }

        assert!(is_behind(&mut world, missed).await, "{is_refilled}, {comes_late}");
        assert!(!is_behind(&mut world, seen).await);
        let last = world.publish("last").await.unwrap();
        assert!(is_behind(&mut world, last).await);
        deliver(&mut world, last).await;
        assert!(!is_behind(&mut world, last).await, "it goes on");
    }
}
