//! Taking the capabilities out of a message: every capability pointer becomes null.
//!
//! Works on the bytes of one segment, because a custom payload has no type that could be walked otherwise. It follows the pointer
//! encoding of <https://capnproto.org/encoding.html#pointers>; anything that does not fit the segment is left alone, since the
//! reader of the message will refuse it anyway.

const WORD: usize = 8;

/// Kinds of pointer: the two lowest bits.
const STRUCT: u64 = 0;
const LIST: u64 = 1;
const OTHER: u64 = 3;

/// Element sizes of a list that can hold pointers.
const POINTERS: u64 = 6;
const COMPOSITE: u64 = 7;

/// Sets every capability pointer in `segment` to null, starting from the root pointer in the first word.
pub(crate) fn capabilities(segment: &mut [u8]) {
    // A work list instead of recursion: the depth of a message is its author's choice.
    let mut pending: Vec<std::ops::Range<usize>> = std::iter::once(0..1).collect();
    while let Some(pointers) = pending.pop() {
        for at in pointers {
            let Some(pointer) = read(segment, at) else {
                continue;
            };
            match pointer & 3 {
                STRUCT if pointer != 0 => {
                    let data = at + 1 + offset(pointer);
                    pending.push(pointer_section(data, pointer));
                }
                LIST => {
                    let content = at + 1 + offset(pointer);
                    let count = (pointer >> 35) as usize;
                    match (pointer >> 32) & 7 {
                        POINTERS => pending.push(content..content + count),
                        COMPOSITE => push_elements(segment, content, &mut pending),
                        _ => {}
                    }
                }
                // The only other kind that is defined is a capability.
                OTHER => write_null(segment, at),
                // Far pointers do not occur in a message of one segment.
                _ => {}
            }
        }
    }
}

/// Where the pointers of each struct in a composite list are. `tag_at` is the word that says how the elements look.
fn push_elements(segment: &[u8], tag_at: usize, pending: &mut Vec<std::ops::Range<usize>>) {
    let Some(tag) = read(segment, tag_at) else {
        return;
    };
    let count = (tag as u32 >> 2) as usize;
    let step = data_words(tag) + pointer_words(tag);
    if step == 0 {
        return;
    }
    let words = segment.len() / WORD;
    let elements = (tag_at + 1..words).step_by(step).take(count);
    pending.extend(elements.map(|element| pointer_section(element, tag)));
}

fn pointer_section(data: usize, pointer: u64) -> std::ops::Range<usize> {
    let start = data + data_words(pointer);
    start..start + pointer_words(pointer)
}

fn data_words(pointer: u64) -> usize {
    (pointer >> 32) as usize & 0xffff
}

fn pointer_words(pointer: u64) -> usize {
    (pointer >> 48) as usize
}

/// Offsets are signed in general, but a copied message lays its parts out forwards.
fn offset(pointer: u64) -> usize {
    (pointer as u32 >> 2) as usize
}

fn read(segment: &[u8], word: usize) -> Option<u64> {
    let bytes = segment.get(word * WORD..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

fn write_null(segment: &mut [u8], word: usize) {
    if let Some(bytes) = segment
        .get_mut(word * WORD..)
        .and_then(<[u8]>::first_chunk_mut::<WORD>)
    {
        *bytes = [0; WORD];
    }
}

#[cfg(test)]
mod tests {
    use capnp::message;
    use capnp::traits::ImbueMut;

    use super::*;
    use crate::cluster_capnp::{job_descr, queue};

    #[test]
    fn capabilities_deep_inside_structs_and_lists_are_nulled_and_data_is_not() {
        let mut message =
            message::Builder::new(message::HeapAllocator::new().first_segment_words(1000));
        let mut table = Vec::new();
        let mut root: capnp::any_pointer::Builder<'_> = message.get_root().unwrap();
        root.imbue_mut(&mut table);
        // A struct with a pointer to a list of structs, one of which holds a payload that is again such a struct.
        let mut descr: job_descr::Builder<'_> = root.init_as();
        // Looks like a capability pointer, but is text.
        descr.set_cache_hint("\u{3}\0\0\0\0\0\0\0");
        descr.reborrow().init_secrets(3).get(1).set_id("an-id");
        let payload = descr.init_action().init_custom().init_payload();
        let mut list = payload.initn_as::<capnp::capability_list::Builder<'_, queue::Client>>(4);
        list.set(
            2,
            capnp_rpc::new_broken_cap(capnp::Error::failed("a capability".into())).hook,
        );
        let mut bytes = message.get_segments_for_output()[0].to_vec();
        let before = bytes.clone();

        capabilities(&mut bytes);

        let changed: Vec<usize> = (0..bytes.len() / WORD)
            .filter(|&word| read(&bytes, word) != read(&before, word))
            .collect();
        assert_eq!(
            changed.len(),
            1,
            "exactly the one capability pointer changes: {changed:?}"
        );
        assert_eq!(
            read(&before, changed[0]),
            Some(OTHER),
            "capability 0 of the table"
        );
        assert_eq!(read(&bytes, changed[0]), Some(0));
    }

    #[test]
    fn rubbish_is_left_alone() {
        for seed in 0..2000u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut bytes = Vec::new();
            for _ in 0..16 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend((state & 0x0007_0003_0000_003f).to_le_bytes());
            }
            // The point is that it ends, and touches nothing outside.
            capabilities(&mut bytes);
            assert_eq!(bytes.len(), 16 * WORD);
        }
    }
}
