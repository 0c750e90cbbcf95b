//! A job description as the scheduler keeps it: whole, in its wire form, without looking inside.
//!
//! Fields that came after us survive, because the copy is made of the message's structure and not field by field. Capabilities do
//! not: a description is pure data, and a capability in it (only a custom payload can hold one) becomes null.

use capnp::Word;
use capnp::message::{self, ReaderOptions, ReaderSegments, TypedReader};
use capnp::traits::ImbueMut;
use thiserror::Error;

use crate::cluster_capnp::job_descr;
use crate::strip;

/// One job description, in one piece of memory of exactly its size.
#[derive(Clone)]
pub struct Descriptor {
    /// One Cap'n Proto segment: the root pointer and what it leads to.
    segment: Box<[Word]>,
}

/// How far a small description may be walked through, in words.
const LEAST_WALK: usize = 128 * 1024;

/// Why a description could not be kept.
#[derive(Debug, Error)]
pub enum DescriptorError {
    /// The message it came in is broken.
    #[error("the job description cannot be read: {0}")]
    Malformed(#[from] capnp::Error),
}

impl Descriptor {
    /// A copy of `descr` without its capabilities.
    ///
    /// # Errors
    /// If the message that `descr` lies in is broken.
    pub fn copy_of(descr: job_descr::Reader<'_>) -> Result<Self, DescriptorError> {
        // A first segment of exactly the right size stays the only one: the root pointer, then the struct.
        let words = descr.total_size()?.word_count.saturating_add(1);
        let words = u32::try_from(words)
            .map_err(|_| capnp::Error::failed("it is larger than 32 GiB".to_owned()))?;
        let mut message =
            message::Builder::new(message::HeapAllocator::new().first_segment_words(words));
        let mut capabilities = Vec::new();
        let mut root: capnp::any_pointer::Builder<'_> = message.get_root()?;
        root.imbue_mut(&mut capabilities);
        root.set_as(descr)?;
        let segments = message.get_segments_for_output();
        let &[bytes] = &*segments else {
            return Err(capnp::Error::failed(format!(
                "its copy has {} segments instead of one",
                segments.len()
            ))
            .into());
        };
        let mut segment =
            Word::allocate_zeroed_vec(bytes.len() / size_of::<Word>()).into_boxed_slice();
        Word::words_to_bytes_mut(&mut segment).copy_from_slice(bytes);
        if !capabilities.is_empty() {
            strip::capabilities(Word::words_to_bytes_mut(&mut segment));
        }
        Ok(Self { segment })
    }

    /// The description, to be read, or copied into another message with `set_descr`.
    #[must_use]
    pub fn message(&self) -> TypedReader<OneSegment<'_>, job_descr::Owned> {
        // What was copied out of a message within that message's limits needs none of its own.
        let options = *ReaderOptions::new().traversal_limit_in_words(None);
        message::Reader::new(OneSegment(Word::words_to_bytes(&self.segment)), options).into_typed()
    }

    /// The description's own bytes: one Cap'n Proto segment. [`Descriptor::from_bytes`] reads them again.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        Word::words_to_bytes(&self.segment)
    }

    /// A description that was written down as [`Descriptor::as_bytes`].
    ///
    /// # Errors
    /// If these bytes are not a whole one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DescriptorError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(size_of::<Word>()) {
            return Err(capnp::Error::failed(format!(
                "it has {} bytes, which is not a number of words",
                bytes.len()
            ))
            .into());
        }
        let mut segment =
            Word::allocate_zeroed_vec(bytes.len() / size_of::<Word>()).into_boxed_slice();
        Word::words_to_bytes_mut(&mut segment).copy_from_slice(bytes);
        // What cannot be walked through now could not be sent later. Of the bytes of a real one each is met once, but damaged
        // pointers can lead to the same place so often that the way would never end.
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(Some(segment.len().saturating_mul(8).max(LEAST_WALK)));
        let walked = message::Reader::new(OneSegment(Word::words_to_bytes(&segment)), options);
        walked.get_root::<job_descr::Reader<'_>>()?.total_size()?;
        Ok(Self { segment })
    }

    /// How much memory the description takes.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        size_of_val(&*self.segment)
    }
}

/// A message that is one piece of memory.
pub struct OneSegment<'a>(&'a [u8]);

impl ReaderSegments for OneSegment<'_> {
    fn get_segment(&self, id: u32) -> Option<&[u8]> {
        (id == 0).then_some(self.0)
    }

    fn len(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_small_as_it_can_be() {
        let mut message = message::Builder::new_default();
        let mut descr: job_descr::Builder<'_> = message.init_root();
        descr.set_cache_hint("a-hint");
        descr
            .reborrow()
            .init_action()
            .init_obuilder()
            .set_spec("((from busybox))");
        let copy = Descriptor::copy_of(message.get_root_as_reader().unwrap()).unwrap();
        let size = message
            .get_root_as_reader::<job_descr::Reader<'_>>()
            .unwrap()
            .total_size()
            .unwrap();
        assert_eq!(copy.size_in_bytes() as u64, (size.word_count + 1) * 8);
        let message = copy.message();
        assert_eq!(
            message
                .get()
                .unwrap()
                .get_cache_hint()
                .unwrap()
                .to_str()
                .unwrap(),
            "a-hint"
        );
    }

    #[test]
    fn bytes_give_the_same_description_again_and_damaged_ones_none() {
        let mut message = message::Builder::new_default();
        let mut descr: job_descr::Builder<'_> = message.init_root();
        descr.set_repository("https://example.org/r");
        let descriptor = Descriptor::copy_of(message.get_root_as_reader().unwrap()).unwrap();
        let bytes = descriptor.as_bytes();
        let again = Descriptor::from_bytes(bytes).unwrap();
        assert_eq!(again.as_bytes(), bytes);
        for cut in [0, 3, 8, bytes.len() - 8] {
            assert!(Descriptor::from_bytes(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut wild = bytes.to_vec();
        wild[0] = 0xfc;
        wild[2] = 0x7f;
        assert!(Descriptor::from_bytes(&wild).is_err());
    }

    #[test]
    fn bytes_whose_pointers_never_end_are_refused() {
        // Structs of two pointers, both to the next one: sixty deep, and the last is empty.
        let mut words: Vec<u64> = vec![2 << 48];
        for _ in 0..60 {
            words.push((1 << 2) | (2 << 48));
            words.push(2 << 48);
        }
        words.extend([0, 0]);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!(Descriptor::from_bytes(&bytes).is_err());
    }

    /// A struct as some later version of the schema may define it: one more data word and one more pointer than ours.
    fn descr_of_a_later_version() -> Vec<u8> {
        // Root pointer: struct at offset 0 with 2 data words and 6 pointers.
        let mut words = [0u64; 1 + 8 + 2];
        words[0] = (2 << 32) | (6 << 48);
        words[2] = 0xfeed_beef; // The unknown data word.
        words[8] = 1 | (16 << 35) | (2 << 32); // The unknown pointer: a list of 16 bytes, right behind.
        words[9] = u64::from_le_bytes(*b"unknown ");
        words[10] = u64::from_le_bytes(*b"field!!\0");
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn fields_of_later_versions_survive_keeping_and_forwarding() {
        let bytes = descr_of_a_later_version();
        let mut aligned = Word::allocate_zeroed_vec(bytes.len() / 8);
        Word::words_to_bytes_mut(&mut aligned).copy_from_slice(&bytes);
        let incoming = message::Reader::new(
            OneSegment(Word::words_to_bytes(&aligned)),
            ReaderOptions::new(),
        );
        let kept = Descriptor::copy_of(incoming.get_root().unwrap()).unwrap();
        // Forwarding: into a field of another message, as `Queue.pop` answers.
        let mut answer = message::Builder::new_default();
        let mut results: crate::cluster_capnp::queue::pop_results::Builder<'_> = answer.init_root();
        results.set_descr(kept.message().get().unwrap()).unwrap();
        let sent = capnp::serialize::write_message_to_words(&answer);
        assert!(
            sent.windows(15).any(|window| window == b"unknown field!!"),
            "the unknown pointer was lost"
        );
        assert!(
            sent.windows(4)
                .any(|window| window == [0xef, 0xbe, 0xed, 0xfe]),
            "the unknown data was lost"
        );
    }

    #[test]
    fn capabilities_become_null() {
        let mut message = message::Builder::new_default();
        let mut capabilities = Vec::new();
        let mut root: capnp::any_pointer::Builder<'_> = message.get_root().unwrap();
        root.imbue_mut(&mut capabilities);
        let descr: job_descr::Builder<'_> = root.init_as();
        let broken = capnp_rpc::new_broken_cap(capnp::Error::failed("a capability".into())).hook;
        let mut custom = descr.init_action().init_custom();
        custom.set_kind("sneaky");
        custom.init_payload().set_as_capability(broken);
        let mut reader: capnp::any_pointer::Reader<'_> = message.get_root_as_reader().unwrap();
        capnp::traits::Imbue::imbue(&mut reader, &capabilities);
        let kept = Descriptor::copy_of(reader.get_as().unwrap()).unwrap();
        let message = kept.message();
        let Ok(job_descr::action::Custom(Ok(custom))) = message.get().unwrap().get_action().which()
        else {
            panic!("the action changed its kind")
        };
        assert!(custom.get_payload().is_null());
        assert_eq!(custom.get_kind().unwrap().to_str().unwrap(), "sneaky");
    }
}
