//! Checks for the fuzzer that no damage to a journal goes unnoticed.

use super::{GROUP, Head, MAGIC, MARK, replay_bytes};
use xxhash_rust::xxh3::xxh3_64;

const NUMBER: u64 = 7;

/// A journal with what became of it.
struct Damaged<'a> {
    bytes: Vec<u8>,
    groups: Vec<&'a [u8]>,
    /// Where the mark of each group ends, and whether it says that the disk has the group.
    marks: Vec<(usize, bool)>,
}

/// The first bytes say where the journal is cut, or which byte of it is changed and how, and which of its groups are said to be
/// on the disk. The rest is the groups, with a byte 255 between them.
pub(in crate::room_log::disk) fn check(data: &[u8]) {
    let Some(([high, low, flip, on_disk], changes)) = data.split_first_chunk() else { return };
    let place = usize::from(u16::from_be_bytes([*high, *low]));
    let mut journal = written(changes.split(|byte| *byte == u8::MAX).collect(), *on_disk);
    let place = place % journal.bytes.len();
    if *flip == 0 {
        journal.bytes.truncate(place);
        journal.marks.retain(|(end, _)| *end <= place);
    } else if let Some(byte) = journal.bytes.get_mut(place) {
        *byte ^= flip;
    }

    let mut applied = Vec::new();
    let replayed = replay_bytes(&journal.bytes, NUMBER, true, |changes| {
        applied.push(changes.to_vec());
        true
    });

    assert!(applied.iter().zip(&journal.groups).all(|(one, other)| one == other));
    assert!(applied.len() <= journal.groups.len());
    if let Ok(replayed) = replayed {
        assert_eq!(replayed.groups, applied.len() as u64);
        assert_eq!(replayed.bytes_whole + replayed.bytes_torn, journal.bytes.len() as u64);
        let on_disk_count = journal.marks.iter().rposition(|(_, on_disk)| *on_disk);
        assert!(on_disk_count.is_none_or(|last| last < applied.len()));
    }
    // One that others follow was written whole.
    let is_whole = replay_bytes(&journal.bytes, NUMBER, false, |_| true).is_ok();
    assert!(*flip == 0 || !is_whole);
}

fn written(groups: Vec<&[u8]>, on_disk: u8) -> Damaged<'_> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(NUMBER.to_be_bytes());
    bytes.extend(xxh3_64(&bytes).to_be_bytes());
    let mut marks = Vec::new();
    for (group, changes) in (1..).zip(&groups) {
        let head = Head { length: changes.len() as u32, group, checksum: xxh3_64(changes) };
        bytes.extend(head.encode(GROUP, NUMBER));
        bytes.extend(*changes);
        let is_on_disk = on_disk >> (group % 8) & 1 == 1;
        let mark = Head { length: u32::from(is_on_disk), group, checksum: 0 };
        bytes.extend(mark.encode(MARK, NUMBER));
        marks.push((bytes.len(), is_on_disk));
    }
    Damaged { bytes, groups, marks }
}
