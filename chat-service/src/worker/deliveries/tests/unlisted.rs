//! What is known of rooms for whose users there is no place.

use service_kit::clock;

use super::*;

#[tokio::test]
async fn rooms_beyond_the_bound_take_no_place_and_that_is_told_after_a_crash_too() {
    let mut scene = Scene::new(1).await;
    scene.join("one", "ann").await;
    for number in 0..100 {
        scene.join(&format!("room-{number}"), "bob").await;
    }
    assert_eq!(scene.held(), (1, 1));
    let kept = scene.worker.log.standings().unwrap().due(None, u64::MAX).await.rooms;
    assert_eq!(kept, [room("one")]);
    let said = scene.say("room-7").await;
    assert_eq!(scene.behind("room-7", said).await, (vec![], false));

    for _ in 0..2 {
        scene = scene.start_again(FOLLOWING).await;
        assert_eq!(scene.behind("room-7", said).await, (vec![], false), "he was in it");
        scene.save().await;
    }
    scene.expire(clock::unix_ms() + AGE_MS + 1).await;
    assert_eq!(scene.behind("room-7", said).await, (vec![], true));
    let mut scene = scene.start_again(FOLLOWING).await;
    assert_eq!(scene.behind("room-7", said).await, (vec![], true));
}

#[tokio::test]
async fn who_is_lost_from_a_room_beyond_the_bound_is_missing_for_as_long_as_it_would_be_listed() {
    let mut scene = Scene::new(1).await;
    scene.join("one", "ann").await;
    scene.join("two", "bob").await;
    scene.expire(5 * AGE_MS).await;
    let said = scene.say("two").await;
    assert_eq!(scene.behind("two", said).await, (vec![], false), "he is here");

    scene.lose("bob", 5 * AGE_MS).await;
    scene.expire(6 * AGE_MS).await;
    assert_eq!(scene.behind("two", said).await, (vec![], false));
    scene.expire(6 * AGE_MS + 1).await;
    assert_eq!(scene.behind("two", said).await, (vec![], true));
}

#[tokio::test]
async fn who_is_in_a_room_beyond_the_bound_is_followed_when_there_is_a_place() {
    let mut scene = Scene::new(1).await;
    scene.join("one", "ann").await;
    scene.join("two", "bob").await;
    scene.leave("one", "ann").await;
    scene.expire(0).await;

    let said = scene.say("two").await;
    let expected = (vec!["bob".to_owned()], true);
    assert_eq!(scene.behind("two", said).await, expected);
    assert_eq!(scene.held(), (1, 1));
    let mut scene = scene.start_again(FOLLOWING).await;
    assert_eq!(scene.behind("two", said).await, expected);
}
