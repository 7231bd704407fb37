//! The folder of received snapshots.

use openraft::vote::leader_id_std::{CommittedLeaderId, LeaderId};

use super::*;
use crate::wal::testing::{FakeDisk, TestRuntime};

type Rt = TestRuntime;

const LEADER: NodeId = NodeId(1);

/// A piece of the snapshot that ends at entry `upto`.
fn piece(upto: u64, offset: usize, data: &[u8], last: bool) -> SnapshotChunk<Rt> {
    let last_log_id = Some(openraft::LogId { leader_id: CommittedLeaderId::new(2), index: upto });
    SnapshotChunk {
        vote: openraft::Vote { leader_id: LeaderId { term: 2, voted_for: LEADER }, committed: true },
        meta: SnapshotMetaOf::<TypeConfig<Rt>> { last_log_id, ..Default::default() },
        offset: offset as u64,
        data: data.to_vec().into(),
        last,
    }
}

fn open(disk: &FakeDisk) -> Staging<Rt> {
    Staging::open(disk.clone()).expect("the disk works")
}

/// Sends all of `bytes`, in pieces of so many; gives what came of the last.
fn send(staging: &Staging<Rt>, from: NodeId, upto: u64, bytes: &[u8], size: usize) -> ReceivedSnapshot<Rt> {
    let mut whole = None;
    for (number, data) in bytes.chunks(size).enumerate() {
        assert!(whole.is_none(), "there is no whole before the last piece");
        let last = (number + 1) * size >= bytes.len();
        whole = staging.receive(from, &piece(upto, number * size, data, last)).expect("it follows");
    }
    whole.expect("the last piece makes a whole")
}

fn bytes_of(received: &ReceivedSnapshot<Rt>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = received.read(|piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    read.expect("the disk works");
    bytes
}

/// Why a piece is refused.
fn refusal(staging: &Staging<Rt>, from: NodeId, piece: &SnapshotChunk<Rt>) -> String {
    staging.receive(from, piece).err().expect("it does not follow").to_string()
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 251) as u8 ^ at as u8 ^ seed).collect()
}

#[test]
fn pieces_in_order_give_the_bytes_back() {
    let disk = FakeDisk::new(1);
    let staging = open(&disk);
    for length in [1, 1000, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 2 * READ_BYTES + 7] {
        for size in [length, 1 + length / 3] {
            let bytes = pattern(length, size as u8);
            let received = send(&staging, LEADER, 9, &bytes, size);
            assert!(bytes_of(&received) == bytes, "{length} bytes in pieces of {size}");
            received.discard();
            assert_eq!(disk.files(), []);
        }
    }
}

#[test]
fn an_empty_snapshot_is_one_piece() {
    let staging = open(&FakeDisk::new(1));
    let received = staging.receive(LEADER, &piece(1, 0, &[], true)).expect("it begins").expect("and ends");
    assert!(bytes_of(&received).is_empty());
}

#[test]
fn a_piece_that_does_not_follow_is_refused_and_harms_nothing() {
    let staging = open(&FakeDisk::new(1));
    let none_begun = refusal(&staging, LEADER, &piece(5, 4, b"late", false));
    assert!(none_begun.contains("offset 4 of member 1"), "{none_begun}");

    assert!(staging.receive(LEADER, &piece(5, 0, b"one ", false)).expect("it begins").is_none());
    // A gap, a piece come twice in part, another snapshot's, another sender's.
    refusal(&staging, LEADER, &piece(5, 5, b"two ", false));
    refusal(&staging, LEADER, &piece(5, 3, b"two ", true));
    refusal(&staging, LEADER, &piece(6, 4, b"two ", true));
    refusal(&staging, NodeId(2), &piece(5, 4, b"two ", true));
    assert!(staging.receive(LEADER, &piece(5, 4, b"two ", false)).expect("it follows").is_none());
    // The same piece again, late.
    refusal(&staging, LEADER, &piece(5, 4, b"two ", false));
    let received = staging.receive(LEADER, &piece(5, 8, b"three", true)).expect("it follows").expect("it is whole");
    assert_eq!(bytes_of(&received), b"one two three");
    // It is over: nothing follows.
    refusal(&staging, LEADER, &piece(5, 13, b"more", true));
}

#[test]
fn offset_0_begins_again_and_the_abandoned_file_goes() {
    let disk = FakeDisk::new(1);
    let staging = open(&disk);
    for upto in [5, 5, 6] {
        assert!(staging.receive(LEADER, &piece(upto, 0, b"abandoned", false)).expect("it begins").is_none());
        assert_eq!(disk.files().len(), 1);
    }
    let received = send(&staging, LEADER, 7, b"finished", 3);
    assert_eq!(bytes_of(&received), b"finished");
    assert_eq!(disk.files().len(), 1);
}

#[test]
fn a_transfer_leaves_an_earlier_one_of_its_sender_alone() {
    let disk = FakeDisk::new(1);
    let staging = open(&disk);
    // Whole, and about to be installed, when its sender begins again.
    let first = send(&staging, LEADER, 5, b"the first", 4);
    assert!(staging.receive(LEADER, &piece(6, 0, b"the se", false)).expect("it begins").is_none());
    assert_eq!(bytes_of(&first), b"the first");
    first.discard();
    let second = staging.receive(LEADER, &piece(6, 6, b"cond", true)).expect("it follows").expect("it is whole");
    assert_eq!(bytes_of(&second), b"the second");
    assert_eq!(disk.files().len(), 1);
}

#[test]
fn senders_do_not_disturb_each_other() {
    let staging = open(&FakeDisk::new(1));
    let deposed = NodeId(2);
    assert!(staging.receive(deposed, &piece(5, 0, b"old ", false)).expect("it begins").is_none());
    assert!(staging.receive(LEADER, &piece(6, 0, b"new ", false)).expect("it begins").is_none());
    let old = staging.receive(deposed, &piece(5, 4, b"leader", true)).expect("it follows").expect("it is whole");
    let new = staging.receive(LEADER, &piece(6, 4, b"leader", true)).expect("it follows").expect("it is whole");
    assert_eq!((bytes_of(&old), bytes_of(&new)), (b"old leader".to_vec(), b"new leader".to_vec()));
}

/// The stream of a store whose only key was put so many times, in the format that `mvcc` describes.
fn stream(puts: u64) -> Vec<u8> {
    let mut checksum = 0;
    let mut frame = |payload: &[u8]| {
        checksum = crc32c::crc32c_append(checksum, payload);
        [&(payload.len() as u32).to_le_bytes()[..], &checksum.to_le_bytes(), payload].concat()
    };
    let (revision, never_compacted, digest) = (1 + puts, u64::MAX, 0u64);
    let header = [&[0, 1][..], &[revision, never_compacted, digest].map(u64::to_le_bytes).concat()].concat();
    let mut rows = vec![1];
    for version in 1..=puts {
        let (created, lease) = (2, 0);
        let fields = [created, version, lease].map(u64::to_le_bytes).concat();
        let row = [&[1, 3, 0, 0, 0][..], b"key", &fields, b"value"].concat();
        rows.extend((u128::from(1 + version) << 64).to_le_bytes());
        rows.extend((row.len() as u32).to_le_bytes());
        rows.extend(row);
    }
    let end = [&[2][..], &puts.to_le_bytes()].concat();
    [frame(&header), frame(&rows), frame(&end)].concat()
}

/// Why a received snapshot is refused.
fn damage(received: ReceivedSnapshot<Rt>) -> String {
    received.checked().err().expect("it is damaged").to_string()
}

#[test]
fn a_snapshot_damaged_on_the_way_is_refused_and_its_sender_may_begin_again() {
    let disk = FakeDisk::new(1);
    let staging = open(&disk);
    let whole = stream(3);
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        let refusal = damage(send(&staging, LEADER, 9, &damaged, 50));
        assert!(refusal.starts_with("the snapshot is damaged at byte "), "byte {at}: {refusal}");
        assert_eq!(disk.files(), [], "nothing of it stays");
    }
    for length in 1..whole.len() {
        damage(send(&staging, LEADER, 9, &whole[..length], 50));
    }
    damage(send(&staging, LEADER, 9, &[&whole[..], b"\0"].concat(), 50));

    let received = send(&staging, LEADER, 9, &whole, 50).checked().expect("this one is whole");
    assert!(bytes_of(&received) == whole);
}

#[test]
fn a_snapshot_damaged_by_the_medium_is_refused() {
    let disk = FakeDisk::new(1);
    let staging = open(&disk);
    let received = send(&staging, LEADER, 9, &stream(3), 50);
    let [(path, length)] = &disk.files()[..] else { panic!("{:?}", disk.files()) };
    disk.flip(path, length * 4);
    let refusal = damage(received);
    assert!(refusal.starts_with("the snapshot is damaged at byte "), "{refusal}");
    assert_eq!(disk.files(), []);
}

#[test]
fn opening_empties_the_folder() {
    let disk = FakeDisk::new(1);
    let staging = open(&disk);
    assert!(staging.receive(LEADER, &piece(5, 0, b"half", false)).expect("it begins").is_none());
    assert!(staging.receive(NodeId(2), &piece(5, 0, b"whole", true)).expect("it begins").is_some());
    assert_eq!(disk.files().len(), 2);
    let staging = open(&disk);
    assert_eq!(disk.files(), []);
    // Names begin anew, and what is taken is not in the way.
    assert_eq!(bytes_of(&send(&staging, LEADER, 5, b"again", 2)), b"again");
}
