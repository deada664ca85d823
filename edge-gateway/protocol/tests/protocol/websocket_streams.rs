//! Streams of frames, cut wherever the network likes.

use edge_protocol::websocket::{DecodeFrameError, Decoder};
use proptest::prelude::*;

use crate::client::{
    BINARY, CLOSE, CONTINUATION, LIMIT, PING, PONG, Reader, Seen, TEXT, frame_with, read_all,
};

/// A message and how the client cuts it, or a control frame.
#[derive(Debug, Clone)]
struct Sent {
    seen: Seen,
    cuts: Vec<prop::sample::Index>,
    pings_between: bool,
    mask: [u8; 4],
}

impl Sent {
    fn put(&self, bytes: &mut Vec<u8>, expected: &mut Vec<Seen>) {
        let (opcode, payload) = match &self.seen {
            Seen::Text(text) => (TEXT, text.clone().into_bytes()),
            Seen::Binary(payload) => (BINARY, payload.clone()),
            Seen::Ping(payload) => (PING, payload.clone()),
            Seen::Pong(payload) => (PONG, payload.clone()),
            Seen::Close(code) => (CLOSE, code.map_or(vec![], |code| code.to_be_bytes().to_vec())),
        };
        let is_control = opcode >= CLOSE;
        let mut cuts: Vec<_> = self.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        cuts.sort_unstable();
        if is_control {
            cuts.clear();
        }
        cuts.push(payload.len());

        let mut start = 0;
        for (index, end) in cuts.iter().copied().enumerate() {
            let opcode = if index == 0 { opcode } else { CONTINUATION };
            let is_last = index + 1 == cuts.len();
            let first_byte = if is_last { 0x80 | opcode } else { opcode };
            bytes.extend(frame_with(first_byte, self.mask, &payload[start..end]));
            if self.pings_between && !is_last {
                bytes.extend(frame_with(0x80 | PING, self.mask, b"?"));
                expected.push(Seen::Ping(b"?".to_vec()));
            }
            start = end;
        }
        expected.push(self.seen.clone());
    }
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..=max);
    let seen = prop_oneof![
        4 => any::<String>().prop_map(Seen::Text),
        1 => ".{0,300}".prop_map(Seen::Text),
        2 => bytes(400).prop_map(Seen::Binary),
        1 => bytes(125).prop_map(Seen::Ping),
        1 => bytes(125).prop_map(Seen::Pong),
        1 => prop_oneof![Just(None), (3000u16..5000).prop_map(Some)].prop_map(Seen::Close),
    ];
    (
        seen,
        prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        any::<bool>(),
        any::<[u8; 4]>(),
    )
        .prop_map(|(seen, cuts, pings_between, mask)| Sent { seen, cuts, pings_between, mask })
}

/// Feeds `bytes` in the chunks that end at `ends`, and then the rest.
fn read_chunked(
    bytes: &[u8],
    ends: &[prop::sample::Index],
    limit: usize,
) -> (Vec<Seen>, Result<(), DecodeFrameError>) {
    let mut ends: Vec<_> = ends.iter().map(|end| end.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();

    let mut reader = Reader::default();
    let mut start = 0;
    for end in ends {
        if let Err(error) = reader.read(&bytes[start..end], limit) {
            return (reader.seen, Err(error));
        }
        start = end;
    }
    (reader.seen, Ok(()))
}

proptest! {
    #[test]
    fn a_stream_means_the_same_however_it_is_cut(
        sent in prop::collection::vec(any_sent(), 1..8),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for message in &sent {
            message.put(&mut bytes, &mut expected);
        }

        prop_assert_eq!(read_all(&bytes, LIMIT), Ok(expected.clone()));
        prop_assert_eq!(read_chunked(&bytes, &ends, LIMIT), (expected, Ok(())));
    }

    #[test]
    fn a_stream_means_the_same_byte_by_byte(sent in prop::collection::vec(any_sent(), 1..4)) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for message in &sent {
            message.put(&mut bytes, &mut expected);
        }

        let mut reader = Reader::default();
        for byte in bytes {
            prop_assert_eq!(reader.read(&[byte], LIMIT), Ok(()));
        }
        prop_assert_eq!(reader.seen, expected);
    }

    #[test]
    fn arbitrary_bytes_mean_the_same_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        limit in 0usize..400,
    ) {
        prop_assert_eq!(read_chunked(&bytes, &ends, limit), read_chunked(&bytes, &[], limit));
    }

    #[test]
    fn a_damaged_stream_never_panics(
        sent in prop::collection::vec(any_sent(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        limit in 0usize..400,
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for message in &sent {
            message.put(&mut bytes, &mut expected);
        }
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }

        let (seen, _) = read_chunked(&bytes, &[], limit);
        for message in seen {
            let (Seen::Text(_) | Seen::Binary(_)) = &message else { continue };
            let len = match message {
                Seen::Text(text) => text.len(),
                Seen::Binary(payload) => payload.len(),
                Seen::Ping(_) | Seen::Pong(_) | Seen::Close(_) => 0,
            };
            prop_assert!(len <= limit);
        }
    }

    #[test]
    fn the_largest_limit_overflows_nothing(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut input = [&[0x82, 0xFF][..], &bytes].concat();
        let _decoded = Decoder::default().decode(&mut input, usize::MAX);
    }
}
