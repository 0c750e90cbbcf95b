//! A byte stream from a peer is cut into the same messages however it arrives, and into those that Cap'n Proto reads.

#![no_main]

#[path = "../../crates/vat/src/frame.rs"]
mod frame;

use capnp::message::{ReaderOptions, ReaderSegments as _};
use frame::{Frame, FrameError, FrameReader};

/// Whole messages, and how the stream went on: whether it ended between two, or why it is none.
type Cut = (Vec<Frame>, Result<bool, FrameError>);

fn cut(stream: &[u8], piece: usize, limit: usize) -> Cut {
    let mut reader = FrameReader::default();
    let mut frames = Vec::new();
    for mut bytes in stream.chunks(piece) {
        loop {
            match reader.next(&mut bytes, limit) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        assert!(bytes.is_empty(), "bytes were left over");
    }
    (frames, Ok(reader.is_empty()))
}

fn segments(frame: &Frame) -> Vec<&[u8]> {
    let count = u32::try_from(frame.len()).unwrap();
    assert!(frame.get_segment(count).is_none());
    (0..count)
        .map(|index| frame.get_segment(index).unwrap())
        .collect()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&choice, stream)) = data.split_first() else {
        return;
    };
    // Without a limit, what is announced must still cost nothing: the fuzzer bounds each allocation.
    let limit = if choice & 1 == 0 { 1024 } else { usize::MAX };
    let (frames, end) = cut(stream, stream.len().max(1), limit);
    let (in_pieces, same_end) = cut(stream, usize::from(choice >> 1) + 1, limit);
    assert_eq!(end, same_end);
    assert_eq!(frames.len(), in_pieces.len());

    let mut rest = stream;
    let options = *ReaderOptions::new().traversal_limit_in_words(None);
    for (frame, piece) in frames.into_iter().zip(in_pieces) {
        let found = segments(&frame);
        assert_eq!(found, segments(&piece));
        assert!(frame.bytes() <= limit);
        let expected = capnp::serialize::read_message(&mut rest, options).unwrap();
        let expected = expected.into_segments();
        assert_eq!(found.len(), expected.len());
        for (index, segment) in (0..).zip(found) {
            assert_eq!(expected.get_segment(index), Some(segment));
        }
        // Walking through it comes to an end, whatever its pointers say.
        let message = frame.into_reader();
        if let Ok(root) = message.get_root::<capnp::any_pointer::Reader<'_>>() {
            let _walked = root.target_size();
        }
    }
    if end == Ok(true) {
        assert!(rest.is_empty(), "messages were left out");
    }
});
