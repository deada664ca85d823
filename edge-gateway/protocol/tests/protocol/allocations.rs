//! What the ordinary path costs in allocations.

use allocation_counter::measure;
use bytes::Bytes;
use edge_protocol::engine_io::payload::{self, Payload};
use edge_protocol::engine_io::{self, Base64Text, Received};
use edge_protocol::websocket::{Decoded, Decoder, Message};
use edge_protocol::{plain_json, socket_io};

use crate::client::{BOUNDS, LIMIT, TEXT, frame};

#[test]
fn an_event_is_decoded_from_bytes_without_allocating() {
    let text =
        r#"42/chat,7["message",{"room":"lobby","text":"é","at":[1.5e3,null,{"deep":[[[]]]}]}]"#;
    let mut input = frame(TEXT, text.as_bytes());
    let mut decoder = Decoder::default();

    let allocated = measure(|| {
        let decoded = decoder.decode(&mut input, LIMIT);
        let Ok(Decoded::Frame { message: Some(Message::Text(text)), .. }) = decoded else {
            panic!()
        };
        let Ok(Received::Message(message)) = engine_io::receive(text) else { panic!() };
        let packet = socket_io::Assembler::default().text(message, BOUNDS);
        let Ok(socket_io::Packet::Event { args, .. }) = packet else { panic!() };
        assert_eq!(args.len(), text.len() - r#"42/chat,7["message",]"#.len());
    });

    assert_eq!(allocated.count_total, 0);
}

#[test]
fn an_idle_assembler_is_a_null_pointer() {
    assert_eq!(size_of::<plain_json::Assembler>(), size_of::<usize>());
    assert_eq!(size_of::<socket_io::Assembler>(), size_of::<usize>());
}

#[test]
fn a_binary_packet_costs_the_same_whatever_its_number_of_attachments() {
    let allocations_for = |count: usize| {
        let text = format!(r#"5{count}-/chat,["image",1]"#);
        let attachments = vec![Bytes::from_static(b"x"); count];
        measure(|| {
            let mut assembler = socket_io::Assembler::default();
            assert!(assembler.text(&text, BOUNDS).is_ok());
            let mut packet = None;
            for attachment in &attachments {
                packet = assembler.binary(attachment.clone()).unwrap();
            }
            assert!(packet.is_some());
        })
    };

    let (one, ten) = (allocations_for(1), allocations_for(10));

    assert_eq!(one.count_total, ten.count_total);
    assert_eq!(one.bytes_current, 0);
}

#[test]
fn a_packet_that_is_given_up_gives_its_memory_back() {
    let allocated = measure(|| {
        let mut assembler = socket_io::Assembler::default();
        assert!(assembler.text(r#"52-/chat,["image",1]"#, BOUNDS).is_ok());
        assert!(assembler.binary(vec![0; 5000].into()).is_ok());
        assert!(assembler.text("2", BOUNDS).is_err());
        std::mem::forget(assembler);
    });

    assert!(allocated.count_total > 0);
    assert_eq!(allocated.bytes_current, 0);
}

#[test]
fn the_texts_in_a_body_are_found_without_allocating() {
    let body = b"42[\"a\"]\x1e3\x1ebAQID\x1e42/chat,7[\"b\",1]";

    let allocated = measure(|| assert_eq!(payload::receive(body).flatten().count(), 4));

    assert_eq!(allocated.count_total, 0);
}

#[test]
fn bytes_as_text_are_decoded_in_one_allocation() {
    for text in ["AQID".repeat(1000), "AQI=".to_owned(), "AA==".to_owned()] {
        let allocated = measure(|| assert!(Base64Text::new(&text).decode(LIMIT).is_ok()));

        assert_eq!(allocated.count_total, 1);
    }
}

#[test]
fn bytes_that_exceed_the_limit_are_not_decoded() {
    let text = "AQID".repeat(1000);

    let allocated = measure(|| assert!(Base64Text::new(&text).decode(2999).is_err()));

    assert_eq!(allocated.count_total, 0);
}

#[test]
fn a_poll_takes_frames_in_one_allocation() {
    let args = format!("[\"{}\"]", "x".repeat(70_000));
    let attachments = [vec![1; 70_000], vec![]];
    let frames =
        socket_io::encode_event_frames("/", "a", args.as_bytes(), None, &attachments).unwrap();

    let allocated = measure(|| {
        let mut payload = Payload::new();
        assert!(payload.push(&frames).is_ok());
        let body = payload.into_body();
        assert_eq!(body.capacity(), body.len());
    });

    assert_eq!(allocated.count_total, 1);
}

#[test]
fn a_plain_request_is_decoded_without_allocating() {
    let text = r#"{"event":"message","data":{"room":"lobby","text":"a\n"},"id":7}"#;

    let allocated =
        measure(|| assert!(plain_json::Assembler::default().text(text, BOUNDS).is_ok()));

    assert_eq!(allocated.count_total, 0);
}

#[test]
fn a_frame_is_encoded_in_one_allocation() {
    let args = format!("[{{\"text\":\"{}\"}}]", "x".repeat(70_000));
    let args = args.as_bytes();
    let attachments = [vec![1; 70_000], vec![]];
    let bytes = attachments.clone().map(Bytes::from);
    let encoders: [&dyn Fn() -> Vec<u8>; 10] = [
        &|| socket_io::encode_event_frame("/chat", "a \"name\"\n", args, Some(u64::MAX)).unwrap(),
        &|| socket_io::encode_event_frame("/", "a", b"[]", None).unwrap(),
        &|| socket_io::encode_ack_frame("/chat", 12, args).unwrap(),
        &|| socket_io::encode_event_frames("/", "a", args, None, &attachments).unwrap(),
        &|| socket_io::encode_ack_frames("/chat", 12, args, &attachments).unwrap(),
        &|| socket_io::encode_connect_frame("/chat", "s1", None),
        &|| socket_io::encode_connect_error_frame("/chat", "no", Some(b"{}")),
        &|| socket_io::encode_disconnect_frame("/chat"),
        &|| plain_json::encode_event_frames("a", args, Some(7), &bytes).unwrap(),
        &|| plain_json::encode_answer_frames(b"7", args, &bytes).unwrap(),
    ];

    for (index, encode) in encoders.iter().enumerate() {
        let allocated = measure(|| {
            let frame = encode();
            assert_eq!(frame.capacity(), frame.len());
        });
        assert_eq!(allocated.count_total, 1, "encoder {index}");
    }
}

#[test]
fn a_fragmented_message_gives_its_memory_back_with_the_next_call() {
    let mut first = crate::client::fragment(TEXT, &[b'x'; 5000]);
    let mut last = frame(crate::client::CONTINUATION, b"y");

    let allocated = measure(|| {
        let mut decoder = Decoder::default();
        assert!(decoder.decode(&mut first, LIMIT).is_ok());
        assert!(decoder.decode(&mut last, LIMIT).is_ok());
        assert!(decoder.decode(&mut [], LIMIT).is_ok());
        std::mem::forget(decoder);
    });

    assert!(allocated.count_total > 0);
    assert_eq!(allocated.bytes_current, 0);
}

#[test]
fn a_text_that_arrives_in_part_costs_one_small_allocation() {
    let mut input = frame(TEXT, &[b'x'; 5000]);
    let len = input.len();

    let allocated = measure(|| {
        let mut decoder = Decoder::default();
        for arrived in [100, 4000, len] {
            assert!(decoder.decode(&mut input[..arrived], LIMIT).is_ok());
        }
        std::mem::forget(decoder);
    });

    assert_eq!(allocated.count_total, 1);
    assert!(allocated.bytes_max < 200, "{}", allocated.bytes_max);
    assert_eq!(allocated.bytes_current, 0);
}

#[test]
fn a_header_that_promises_much_makes_nothing_grow() {
    let mut input = crate::client::header(0x82, LIMIT as u64);

    let allocated = measure(|| {
        let decoded = Decoder::default().decode(&mut input, LIMIT).map(|_| ());
        assert_eq!(decoded, Ok(()));
    });

    assert_eq!(allocated.count_total, 0);
}
