//! One frame, or a few, and what exactly comes of them.

use edge_protocol::websocket::{
    DecodeFrameError, Decoded, Decoder, Message, Opcode, PING_FRAME, SMALL_FRAGMENT_BYTES,
    SMALL_FRAGMENTS_MAX, close_frame, frame_header_len, put_frame_header, put_pong,
};

use crate::client::{
    BINARY, CLOSE, CONTINUATION, LIMIT, MASK, PING, PONG, Reader, Seen, TEXT, fragment, frame,
    frame_with, header, read_all,
};

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

fn refusal(frames: &[&[u8]]) -> DecodeFrameError {
    read_all(&frames.concat(), LIMIT).unwrap_err()
}

#[test]
fn the_examples_of_the_rfc_are_decoded() {
    let masked_hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let masked_pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

    assert_eq!(read_all(&masked_hello, LIMIT), Ok(vec![text("Hello")]));
    assert_eq!(read_all(&masked_pong, LIMIT), Ok(vec![Seen::Pong(b"Hello".to_vec())]));
}

#[test]
fn every_length_encoding_is_read() {
    for len in [0, 1, 3, 4, 15, 16, 17, 124, 125, 126, 127, 128, 65_535, 65_536, 65_537, LIMIT] {
        let payload = "x".repeat(len);

        assert_eq!(read_all(&frame(TEXT, payload.as_bytes()), LIMIT), Ok(vec![text(&payload)]));
    }
}

#[test]
fn every_mask_is_undone() {
    let payload: Vec<u8> = (0..=255).cycle().take(1000).collect();

    for mask in [[0; 4], [0xFF; 4], [1, 2, 3, 4], [0x80, 0, 0, 1]] {
        let frame = frame_with(0x80 | BINARY, mask, &payload);
        assert_eq!(read_all(&frame, LIMIT), Ok(vec![Seen::Binary(payload.clone())]));
    }
}

#[test]
fn fragments_make_one_message_with_control_frames_between_them() {
    let input = [
        fragment(TEXT, b"a"),
        frame(PING, b"p"),
        fragment(CONTINUATION, b""),
        frame(PONG, b""),
        frame(CONTINUATION, b"b"),
        frame(BINARY, b"c"),
        fragment(BINARY, b"\xFF"),
        frame(CONTINUATION, b"\xFE"),
    ]
    .concat();

    assert_eq!(
        read_all(&input, LIMIT),
        Ok(vec![
            Seen::Ping(b"p".to_vec()),
            Seen::Pong(vec![]),
            text("ab"),
            Seen::Binary(b"c".to_vec()),
            Seen::Binary(b"\xFF\xFE".to_vec()),
        ])
    );
}

#[test]
fn a_character_may_be_cut_by_a_fragment_at_any_byte() {
    let whole = "é€🎈x";

    for cut in 0..=whole.len() {
        let (first, second) = whole.as_bytes().split_at(cut);
        let input = [fragment(TEXT, first), frame(CONTINUATION, second)].concat();
        assert_eq!(read_all(&input, LIMIT), Ok(vec![text(whole)]), "cut at {cut}");
    }
    let bytes = whole.as_bytes().iter().map(|byte| fragment(CONTINUATION, &[*byte]));
    let input = [fragment(TEXT, b"")].into_iter().chain(bytes).chain([frame(CONTINUATION, b"")]);
    assert_eq!(read_all(&input.collect::<Vec<_>>().concat(), LIMIT), Ok(vec![text(whole)]));
}

#[test]
fn text_that_is_not_utf8_is_refused_as_early_as_a_fragment_shows_it() {
    let cases: [&[&[u8]]; 7] = [
        &[&frame(TEXT, b"\xFF")],
        &[&frame(TEXT, b"\xC3")],
        &[&frame(TEXT, b"\xED\xA0\x80")],
        &[&frame(TEXT, b"\xF4\x90\x80\x80")],
        &[&fragment(TEXT, b"ok \xC3"), &fragment(CONTINUATION, b"\x28")],
        &[&fragment(TEXT, b"\xFF")],
        &[&fragment(TEXT, b"ok \xC3"), &frame(CONTINUATION, b"")],
    ];

    for frames in cases {
        assert_eq!(refusal(frames), DecodeFrameError::InvalidUtf8, "{frames:x?}");
    }
}

#[test]
fn each_breach_of_the_framing_has_its_refusal() {
    let ping_of_126 = [header(0x80 | PING, 126), MASK.to_vec()].concat();
    let cases: [(&[&[u8]], DecodeFrameError); 19] = [
        (&[b"\x81\x00"], DecodeFrameError::Unmasked),
        (&[b"\x81\x05Hello"], DecodeFrameError::Unmasked),
        (&[b"\x88\x00"], DecodeFrameError::Unmasked),
        (&[b"\xC1\x80"], DecodeFrameError::ReservedBits),
        (&[b"\xA1\x80"], DecodeFrameError::ReservedBits),
        (&[b"\x91\x80"], DecodeFrameError::ReservedBits),
        (&[b"\x83\x80"], DecodeFrameError::UnknownOpcode),
        (&[b"\x87\x80"], DecodeFrameError::UnknownOpcode),
        (&[b"\x8B\x80"], DecodeFrameError::UnknownOpcode),
        (&[b"\x8F\x80"], DecodeFrameError::UnknownOpcode),
        (&[&ping_of_126], DecodeFrameError::ControlTooLong),
        (&[b"\x8A\xFF"], DecodeFrameError::ControlTooLong),
        (&[&fragment(PING, b"")], DecodeFrameError::ControlFragmented),
        (&[&fragment(CLOSE, b"")], DecodeFrameError::ControlFragmented),
        (&[&frame(CONTINUATION, b"")], DecodeFrameError::UnexpectedContinuation),
        (
            &[&frame(TEXT, b""), &fragment(CONTINUATION, b"")],
            DecodeFrameError::UnexpectedContinuation,
        ),
        (&[&fragment(TEXT, b""), &frame(TEXT, b"")], DecodeFrameError::ExpectedContinuation),
        (&[&fragment(BINARY, b""), &fragment(BINARY, b"")], DecodeFrameError::ExpectedContinuation),
        (
            &[&fragment(TEXT, b""), &frame(CONTINUATION, b""), &frame(CONTINUATION, b"")],
            DecodeFrameError::UnexpectedContinuation,
        ),
    ];

    for (frames, error) in cases {
        assert_eq!(refusal(frames), error, "{frames:x?}");
    }
}

#[test]
fn a_length_must_be_in_its_shortest_form() {
    let cases: [&[u8]; 5] = [
        &[0x81, 0xFE, 0, 0],
        &[0x81, 0xFE, 0, 125],
        &[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0, 126],
        &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
    ];

    for header in cases {
        assert_eq!(refusal(&[header]), DecodeFrameError::NonMinimalLength, "{header:x?}");
    }
}

#[test]
fn a_message_over_the_limit_is_refused_from_its_header_alone() {
    for len in [LIMIT as u64 + 1, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX] {
        assert_eq!(refusal(&[&header(0x80 | TEXT, len)]), DecodeFrameError::TooLarge, "{len}");
    }
    assert_eq!(read_all(&frame(TEXT, b"12345"), 5), Ok(vec![text("12345")]));
    assert_eq!(read_all(&header(0x80 | BINARY, 6), 5), Err(DecodeFrameError::TooLarge));
}

#[test]
fn the_limit_is_for_a_message_with_all_its_fragments() {
    let start = [fragment(TEXT, b"123"), fragment(CONTINUATION, b"4")].concat();

    let fits = [start.clone(), frame(CONTINUATION, b"5"), frame(TEXT, b"12345")].concat();
    let exceeds = [start, header(CONTINUATION, 2)].concat();

    assert_eq!(read_all(&fits, 5), Ok(vec![text("12345"), text("12345")]));
    assert_eq!(read_all(&exceeds, 5), Err(DecodeFrameError::TooLarge));
}

#[test]
fn control_frames_do_not_count_against_the_limit() {
    let input = [fragment(TEXT, b"12"), frame(PING, &[7; 125]), frame(CONTINUATION, b"")].concat();

    assert_eq!(read_all(&input, 2), Ok(vec![Seen::Ping(vec![7; 125]), text("12")]));
}

#[test]
fn empty_fragments_cannot_keep_a_message_open_for_ever() {
    let fragments = |count: u32| -> Vec<u8> {
        let continuations = (1..count).flat_map(|_| fragment(CONTINUATION, b""));
        fragment(TEXT, b"").into_iter().chain(continuations).collect()
    };

    let most = [fragments(SMALL_FRAGMENTS_MAX - 1), frame(CONTINUATION, b"")].concat();
    let too_many = [fragments(SMALL_FRAGMENTS_MAX), frame(CONTINUATION, b"")].concat();

    assert_eq!(read_all(&most, LIMIT), Ok(vec![text("")]));
    assert_eq!(read_all(&too_many, LIMIT), Err(DecodeFrameError::TooManyFragments));
}

#[test]
fn fragments_that_are_not_small_are_bounded_by_the_limit_alone() {
    let piece = [b'x'; SMALL_FRAGMENT_BYTES];
    let count = 4 * SMALL_FRAGMENTS_MAX as usize;
    let pieces = |fragment: &[u8]| -> Vec<u8> {
        let continuations = (1..count).flat_map(|_| self::fragment(CONTINUATION, fragment));
        self::fragment(TEXT, fragment).into_iter().chain(continuations).collect()
    };

    let whole = [pieces(&piece), frame(CONTINUATION, b"")].concat();
    let smaller = pieces(&piece[1..]);

    let message = "x".repeat(count * SMALL_FRAGMENT_BYTES);
    assert_eq!(read_all(&whole, message.len()), Ok(vec![text(&message)]));
    assert_eq!(read_all(&smaller, message.len()), Err(DecodeFrameError::TooManyFragments));
}

#[test]
fn a_text_that_is_no_utf8_is_refused_before_its_frame_is_whole() {
    let good = "\u{3ba}\u{1f6a}\u{1f388}".repeat(300).into_bytes();
    // A fragment that ends within a character, and one that ends with it.
    for split in [1, 2] {
        let first = fragment(TEXT, &good[..split]);
        let payload = [&good[split..], b"\xF4\x90", &[b'x'; 1000]].concat();
        let input = [first, frame(CONTINUATION, &payload)].concat();
        let bad_at = input.len() - 1001;

        let mut reader = Reader::default();
        for byte in &input[..bad_at] {
            assert_eq!(reader.read(&[*byte], LIMIT), Ok(()));
        }
        assert_eq!(reader.read(&input[bad_at..=bad_at], LIMIT), Err(DecodeFrameError::InvalidUtf8));
    }

    let alone = frame(TEXT, &[&good[..], b"\xFF", &[b'x'; 1000]].concat());
    let cut = &alone[..alone.len() - 1000];
    assert_eq!(refusal(&[cut]), DecodeFrameError::InvalidUtf8);
}

#[test]
fn a_part_of_a_frame_says_how_much_is_needed() {
    let needed = |input: &[u8]| match Decoder::default().decode(&mut input.to_vec(), LIMIT) {
        Ok(Decoded::Incomplete { needed }) => needed,
        other => panic!("{input:x?}: {other:?}"),
    };

    assert_eq!(needed(b""), 2);
    assert_eq!(needed(b"\x81"), 2);
    assert_eq!(needed(b"\x81\x80"), 6);
    assert_eq!(needed(b"\x81\x85"), 11);
    assert_eq!(needed(b"\x81\xFE"), 4);
    assert_eq!(needed(b"\x81\xFE\x01"), 4);
    assert_eq!(needed(b"\x81\xFE\x01\x00"), 8 + 256);
    assert_eq!(needed(b"\x81\xFF"), 10);
    assert_eq!(needed(&header(0x81, 70_000)), 14 + 70_000);
    assert_eq!(needed(&[&header(0x81, 70_000)[..], &[0; 70_003]].concat()), 14 + 70_000);
}

#[test]
fn a_frame_in_part_is_left_as_it_is() {
    let whole = frame(TEXT, b"Hello");

    for len in 0..whole.len() {
        let mut input = whole[..len].to_vec();
        let decoded = Decoder::default().decode(&mut input, LIMIT).map(|_| ());
        assert_eq!(decoded, Ok(()));
        assert_eq!(input, whole[..len]);
    }
}

#[test]
fn close_codes_are_taken_or_refused_as_registered() {
    let close = |code: u16| read_all(&frame(CLOSE, &code.to_be_bytes()), LIMIT);

    for code in [1000..=1003, 1007..=1014, 3000..=4999].into_iter().flatten() {
        assert_eq!(close(code), Ok(vec![Seen::Close(Some(code))]));
    }
    for code in
        [0..=999, 1004..=1006, 1015..=2999, 5000..=5001, 65_535..=65_535].into_iter().flatten()
    {
        assert_eq!(close(code), Err(DecodeFrameError::BadClose), "{code}");
    }
    assert_eq!(read_all(&frame(CLOSE, b""), LIMIT), Ok(vec![Seen::Close(None)]));
    assert_eq!(refusal(&[&frame(CLOSE, b"\x03")]), DecodeFrameError::BadClose);
    assert_eq!(
        read_all(&frame(CLOSE, b"\x03\xE8b\xC3\xA9"), LIMIT),
        Ok(vec![Seen::Close(Some(1000))])
    );
    assert_eq!(refusal(&[&frame(CLOSE, b"\x03\xE8\xC3")]), DecodeFrameError::InvalidUtf8);
}

#[test]
fn each_refusal_has_its_close_code() {
    let codes = [
        (DecodeFrameError::Unmasked, 1002),
        (DecodeFrameError::ReservedBits, 1002),
        (DecodeFrameError::UnknownOpcode, 1002),
        (DecodeFrameError::ControlTooLong, 1002),
        (DecodeFrameError::ControlFragmented, 1002),
        (DecodeFrameError::UnexpectedContinuation, 1002),
        (DecodeFrameError::ExpectedContinuation, 1002),
        (DecodeFrameError::NonMinimalLength, 1002),
        (DecodeFrameError::BadClose, 1002),
        (DecodeFrameError::InvalidUtf8, 1007),
        (DecodeFrameError::TooManyFragments, 1008),
        (DecodeFrameError::TooLarge, 1009),
    ];

    for (error, code) in codes {
        assert_eq!(error.close_code(), code, "{error}");
    }
}

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 16);
}

#[test]
fn what_the_server_writes_is_what_the_rfc_says() {
    let written = |opcode, payload_len| {
        let mut out = Vec::new();
        put_frame_header(&mut out, opcode, payload_len);
        assert_eq!(out.len(), frame_header_len(payload_len));
        out
    };

    assert_eq!(written(Opcode::Text, 5), [0x81, 5]);
    assert_eq!(written(Opcode::Binary, 125), [0x82, 125]);
    assert_eq!(written(Opcode::Binary, 126), [0x82, 126, 0, 126]);
    assert_eq!(written(Opcode::Binary, 256), [0x82, 126, 1, 0]);
    assert_eq!(written(Opcode::Text, 65_535), [0x81, 126, 255, 255]);
    assert_eq!(written(Opcode::Binary, 65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(written(Opcode::Continuation, 0), [0x80, 0]);
    assert_eq!(PING_FRAME, [0x89, 0]);
    assert_eq!(close_frame(1002), [0x88, 2, 0x03, 0xEA]);
}

#[test]
fn a_pong_repeats_the_ping() {
    let mut out = Vec::new();

    put_pong(&mut out, b"Hello");
    assert_eq!(out, b"\x8A\x05Hello");

    out.clear();
    put_pong(&mut out, &[b'x'; 200]);
    assert_eq!(out[..2], [0x8A, 125]);
    assert_eq!(out.len(), 127);
}

#[test]
fn a_message_borrows_the_input_it_came_in() {
    let mut input = frame(TEXT, b"Hello");
    let whole = input.as_ptr_range();

    let mut decoder = Decoder::default();
    let decoded = decoder.decode(&mut input, LIMIT).unwrap();

    let Decoded::Frame { message: Some(Message::Text(text)), .. } = decoded else {
        panic!("{decoded:?}");
    };
    assert!(whole.contains(&text.as_ptr()));
}
