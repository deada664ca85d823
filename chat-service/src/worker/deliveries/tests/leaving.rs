//! Who is followed when some leave a room, with all of their devices or one.

use super::*;

impl Scene {
    /// One leaves and one comes, before anything is committed.
    async fn leave_and_join(&mut self, leaves: &str, joins: &str) {
        let ticket = self.outbox.extra_ticket();
        let left = Command::SocketLeft(ticket, self.socket(leaves), room("lobby"));
        self.worker.handle(left, 0).await;
        let ticket = self.outbox.extra_ticket();
        let moved = Command::SocketMoved(ticket, self.socket(joins), room("lobby"));
        self.worker.handle(moved, 0).await;
        self.worker.commit().await;
    }

    /// A user comes with another device, too.
    async fn join_with_a_phone(&mut self, user: &str) -> SocketKey {
        let key = SocketKey { link: self.outbox.link(), handle: 999 };
        let user = User::parse(user, "test", b"{}").unwrap();
        let phone = Arc::new(Socket::new(key, "999".into(), "/chat".into(), user).in_open_rooms());
        let ticket = self.outbox.extra_ticket();
        self.worker.handle(Command::SocketMoved(ticket, phone, room("lobby")), 0).await;
        self.worker.commit().await;
        key
    }

    async fn suspend(&mut self, socket: SocketKey) {
        let suspended = Command::SocketSuspended(self.outbox.extra_ticket(), socket);
        self.worker.handle(suspended, 0).await;
        self.worker.commit().await;
    }
}

#[tokio::test]
async fn who_leaves_and_comes_again_at_once_is_followed() {
    let mut scene = Scene::new(10).await;
    scene.join("lobby", "ann").await;
    scene.leave_and_join("ann", "ann").await;
    assert_eq!(scene.held(), (1, 1));
    let said = scene.say("lobby").await;
    scene.lose("ann", 0).await;

    let mut scene = scene.start_again(FOLLOWING).await;
    assert_eq!(scene.held(), (0, 1));
    assert_eq!(scene.behind("lobby", said).await, (vec!["ann".to_owned()], true));
    scene.join("lobby", "ann").await;
    scene.leave_and_join("ann", "ann").await;
    scene.leave("lobby", "ann").await;
    assert_eq!(scene.held(), (0, 0));
    assert_eq!(scene.start_again(FOLLOWING).await.held(), (0, 0));
}

#[tokio::test]
async fn who_comes_as_the_last_one_leaves_is_followed_alone() {
    let mut scene = Scene::new(10).await;
    scene.join("lobby", "ann").await;
    scene.leave_and_join("ann", "bob").await;
    let said = scene.say("lobby").await;
    let expected = (vec!["bob".to_owned()], true);
    assert_eq!(scene.behind("lobby", said).await, expected);
    assert_eq!(scene.held(), (1, 1));

    let mut scene = scene.start_again(FOLLOWING).await;
    assert_eq!(scene.behind("lobby", said).await, expected);
    for now_ms in [AGE_MS, AGE_MS, 2 * AGE_MS + 1] {
        scene.expire(now_ms).await;
    }
    assert_eq!(scene.held(), (0, 0), "he is found when he has been away for too long");
}

#[tokio::test]
async fn who_was_forgotten_before_the_last_one_left_does_not_come_back() {
    let mut scene = Scene::new(10).await;
    scene.join("lobby", "ann").await;
    scene.join("lobby", "bob").await;
    scene.lose("bob", 0).await;
    scene.expire(0).await;
    scene.worker.expire_deliveries(AGE_MS + 1).await;
    scene.leave("lobby", "ann").await;
    scene.join("lobby", "ann").await;

    let mut scene = scene.start_again(FOLLOWING).await;
    let said = scene.say("lobby").await;
    assert_eq!(scene.behind("lobby", said).await, (vec!["ann".to_owned()], true));
}

#[tokio::test]
async fn who_leaves_with_one_device_is_followed_for_the_one_that_is_suspended() {
    let mut scene = Scene::new(10).await;
    scene.join("lobby", "ann").await;
    let phone = scene.join_with_a_phone("ann").await;
    scene.suspend(phone).await;
    scene.leave("lobby", "ann").await;
    let said = scene.say("lobby").await;

    let expected = (vec!["ann".to_owned()], true);
    assert_eq!(scene.behind("lobby", said).await, expected);
    let mut scene = scene.start_again(FOLLOWING).await;
    assert_eq!(scene.behind("lobby", said).await, expected);
}

#[tokio::test]
async fn who_leaves_unlisted_and_has_a_suspended_device_is_missing() {
    let mut scene = Scene::new(1).await;
    scene.join("lobby", "bob").await;
    scene.join("lobby", "ann").await;
    let phone = scene.join_with_a_phone("ann").await;
    scene.suspend(phone).await;
    scene.leave("lobby", "ann").await;

    let said = scene.say("lobby").await;
    assert_eq!(scene.behind("lobby", said).await, (vec!["bob".to_owned()], false));
}

#[tokio::test]
async fn whose_device_resumes_is_followed_even_if_it_was_forgotten_meanwhile() {
    let mut scene = Scene::new(10).await;
    let phone = scene.join_with_a_phone("ann").await;
    scene.suspend(phone).await;
    for now_ms in [0, AGE_MS + 1] {
        scene.expire(now_ms).await;
    }
    assert_eq!(scene.held(), (0, 0));
    let resumed = Command::SocketResumed(scene.outbox.extra_ticket(), phone);
    scene.worker.handle(resumed, 0).await;
    scene.worker.commit().await;

    scene.assert_ann_is_owed_until_it_arrives().await;
}

#[tokio::test]
async fn who_is_lost_while_not_listed_is_missing_and_who_leaves_is_not() {
    for is_lost in [true, false] {
        let mut scene = Scene::new(1).await;
        scene.join("lobby", "ann").await;
        scene.join("lobby", "bob").await;
        match is_lost {
            true => scene.lose("bob", 1000).await,
            false => scene.leave("lobby", "bob").await,
        }
        let said = scene.say("lobby").await;
        assert_eq!(scene.behind("lobby", said).await, (vec!["ann".to_owned()], !is_lost));

        scene.expire(1001 + AGE_MS).await;
        assert_eq!(scene.behind("lobby", said).await, (vec!["ann".to_owned()], true));
    }
}
