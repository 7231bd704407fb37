//! Deadlines on a clock that stands still until it is moved.

use tokio::time::advance;

use super::*;
use crate::mvcc;
use crate::proto::etcdserverpb::LeaseGrantRequest;
use crate::runtime::tokio::{TokioDisk, TokioRuntime};

const TERM: Term = 3;

/// A leader's store and deadlines.
struct World {
    store: Store<TokioDisk>,
    deadlines: Deadlines<TokioRuntime>,
    /// The last place of the log.
    index: u64,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let disk = TokioDisk::open(folder.path()).unwrap();
        let store = Store::open(&disk, "data", mvcc::Options::default()).await.unwrap();
        World { store, deadlines: Deadlines::default(), index: 0, _folder: folder }
    }

    fn begin(&self, checkpoint_interval: Option<Duration>, on_top: Duration) {
        self.deadlines.begin(TERM, &self.store, checkpoint_interval, |lease| seconds(lease.remaining()) + on_top);
    }

    /// The place in the log of the grant.
    async fn grant(&mut self, id: i64, ttl: i64) -> u64 {
        self.index += 1;
        let mut batch = self.store.begin().await.unwrap();
        batch.grant_lease(&LeaseGrantRequest { id, ttl }, self.index).unwrap();
        batch.commit().unwrap();
        self.deadlines.follow(&self.store, [LeaseChange::Granted(id)].into_iter());
        self.index
    }

    async fn revoke(&mut self, id: i64) {
        self.index += 1;
        let mut batch = self.store.begin().await.unwrap();
        batch.revoke_lease(id, None).unwrap();
        batch.commit().unwrap();
        self.deadlines.follow(&self.store, [LeaseChange::Revoked(id)].into_iter());
    }

    fn due(&self) -> Vec<(i64, u64)> {
        self.deadlines.due(TERM, 10)
    }

    fn left_s(&self, id: i64, granted: u64) -> Option<u64> {
        self.deadlines.left(TERM, id, granted).map(|left| left.as_secs())
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

#[test]
fn a_lease_is_due_at_its_end_and_once() {
    run(async {
        let mut world = World::new().await;
        world.begin(None, Duration::ZERO);
        let long = world.grant(7, 20).await;
        let short = world.grant(8, 10).await;
        pass(9).await;
        assert_eq!(world.due(), []);
        assert_eq!((world.left_s(7, long), world.left_s(8, short)), (Some(11), Some(1)));
        pass(1).await;
        assert_eq!(world.left_s(8, short), None);
        assert_eq!(world.due(), [(8, short)]);
        // It is ending: nobody hears of it until that has come to something.
        assert_eq!((world.due(), world.left_s(8, short)), (vec![], None));
        assert_eq!(world.deadlines.renew(TERM, 8), Renewal::Busy);
        world.deadlines.not_ended(TERM, 8, short);
        assert_eq!(world.due(), [(8, short)]);
        world.revoke(8).await;
        world.deadlines.not_ended(TERM, 8, short);
        assert_eq!(world.due(), []);
        assert_eq!(world.deadlines.renew(TERM, 8), Renewal::Unknown);
        pass(10).await;
        assert_eq!(world.due(), [(7, long)]);
    });
}

#[test]
fn a_renewal_gives_a_lease_its_time_anew_and_never_less_than_it_has() {
    run(async {
        let mut world = World::new().await;
        let granted = world.grant(7, 10).await;
        world.begin(None, Duration::from_secs(5));
        assert_eq!(world.left_s(7, granted), Some(15));
        assert_eq!(world.deadlines.renew(TERM, 7), Renewal::Renewed);
        assert_eq!(world.left_s(7, granted), Some(15));
        pass(12).await;
        assert_eq!(world.deadlines.renew(TERM, 7), Renewal::Renewed);
        assert_eq!(world.left_s(7, granted), Some(10));
        pass(10).await;
        assert_eq!(world.deadlines.renew(TERM, 7), Renewal::Busy);
    });
}

#[test]
fn a_number_that_is_granted_again_is_another_lease() {
    run(async {
        let mut world = World::new().await;
        world.begin(None, Duration::ZERO);
        let first = world.grant(7, 10).await;
        pass(10).await;
        assert_eq!(world.due(), [(7, first)]);
        world.revoke(7).await;
        let second = world.grant(7, 10).await;
        // What comes late of the first one's end.
        world.deadlines.not_ended(TERM, 7, first);
        assert_eq!((world.due(), world.left_s(7, first), world.left_s(7, second)), (vec![], None, Some(10)));
    });
}

#[test]
fn only_the_tenure_of_a_term_answers_for_it() {
    run(async {
        let mut world = World::new().await;
        let granted = world.grant(7, 10).await;
        assert_eq!((world.deadlines.term(), world.deadlines.renew(TERM, 7)), (None, Renewal::Over));
        world.begin(None, Duration::ZERO);
        assert_eq!(world.deadlines.renew(TERM + 1, 7), Renewal::Over);
        assert_eq!(world.deadlines.left(TERM - 1, 7, granted), None);
        pass(10).await;
        assert_eq!(world.deadlines.due(TERM + 1, 10), []);
        world.deadlines.end();
        assert_eq!((world.due(), world.deadlines.renew(TERM, 7)), (vec![], Renewal::Over));
    });
}

#[test]
fn what_is_left_of_long_leases_is_noted_now_and_then() {
    run(async {
        let mut world = World::new().await;
        world.begin(Some(Duration::from_secs(4)), Duration::ZERO);
        let long = world.grant(7, 10).await;
        world.grant(8, 4).await;
        pass(3).await;
        assert_eq!(world.deadlines.to_note(TERM, 10), []);
        advance(Duration::from_millis(1_500)).await;
        // Five and a half seconds; the other lease has too little left.
        let rest = LeaseRest { id: 7, granted: long, rest: 6 };
        assert_eq!(world.deadlines.to_note(TERM, 10), [rest]);
        // A renewal's answer waits for the note, which says less than is left then.
        assert_eq!(world.deadlines.renew(TERM, 7), Renewal::Busy);
        assert_eq!(world.left_s(7, long), Some(10));
        let version = world.deadlines.version();
        world.deadlines.noted(TERM, &[rest]);
        assert!(world.deadlines.version() > version);
        assert_eq!(world.deadlines.renew(TERM, 7), Renewal::Renewed);
        pass(4).await;
        assert_eq!(world.deadlines.to_note(TERM, 10), [LeaseRest { id: 7, granted: long, rest: 6 }]);
    });
}
