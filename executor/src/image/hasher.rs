//! SHA-256 of a stream that somebody else reads or writes.
//!
//! Responsible for hashing short streams where they are and long ones on a second thread, so that
//! hashing takes place while the stream's other side waits for the kernel. Must not know where the
//! bytes come from. Invariant: the result does not depend on how the stream was cut; memory is a
//! few pieces whatever the length.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

/// Bytes that are handed over at once.
const PIECE: usize = 256 * 1024;

/// Pieces that may wait for the thread.
const WAITING: usize = 4;

/// Below this many bytes a thread costs more than it saves.
const LONG: u64 = 4 << 20;

/// A hash under way.
pub(super) struct Hasher {
    state: State,
    count: u64,
}

enum State {
    Here(Sha256),
    Elsewhere(Thread),
}

/// The thread, and the piece that is being gathered for it.
struct Thread {
    piece: Vec<u8>,
    pieces: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
    handle: JoinHandle<Sha256>,
}

impl Hasher {
    pub(super) fn new() -> Self {
        Self {
            state: State::Here(Sha256::new()),
            count: 0,
        }
    }

    /// Returns the number of bytes so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.count += bytes.len() as u64;
        if let State::Here(hasher) = &mut self.state {
            if self.count >= LONG
                && let Some(thread) = Thread::start(hasher)
            {
                self.state = State::Elsewhere(thread);
            } else {
                hasher.update(bytes);
                return;
            }
        }
        if let State::Elsewhere(thread) = &mut self.state {
            while !bytes.is_empty() {
                let room = PIECE - thread.piece.len();
                let (now, later) = bytes.split_at(room.min(bytes.len()));
                thread.piece.extend_from_slice(now);
                if thread.piece.len() == PIECE {
                    thread.hand_over();
                }
                bytes = later;
            }
        }
    }

    /// Returns the hash of all bytes so far; more may follow.
    pub(super) fn so_far(&mut self) -> [u8; 32] {
        let hasher = match std::mem::replace(&mut self.state, State::Here(Sha256::new())) {
            State::Here(hasher) => hasher,
            State::Elsewhere(thread) => thread.finish(),
        };
        self.state = State::Here(hasher.clone());
        hasher.finalize().into()
    }

    pub(super) fn finish(self) -> [u8; 32] {
        match self.state {
            State::Here(hasher) => hasher.finalize().into(),
            State::Elsewhere(thread) => thread.finish().finalize().into(),
        }
    }
}

impl Thread {
    /// Starts a thread that goes on where `hasher` is; `None` when there is no core for it.
    fn start(hasher: &Sha256) -> Option<Self> {
        if std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1) {
            return None;
        }
        let (pieces, received) = sync_channel::<Vec<u8>>(WAITING);
        let (back, spare) = sync_channel(WAITING + 1);
        let mut hasher = hasher.clone();
        let handle = std::thread::Builder::new()
            .name("sha256".to_owned())
            .spawn(move || {
                for mut piece in received {
                    hasher.update(&piece);
                    piece.clear();
                    // Full when nobody asks for them any more.
                    drop(back.try_send(piece));
                }
                hasher
            })
            .ok()?;
        Some(Self {
            piece: Vec::with_capacity(PIECE),
            pieces,
            spare,
            handle,
        })
    }

    fn hand_over(&mut self) {
        let empty = self
            .spare
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(PIECE));
        let full = std::mem::replace(&mut self.piece, empty);
        self.pieces
            .send(full)
            .expect("the thread receives until the sender is dropped");
    }

    fn finish(mut self) -> Sha256 {
        self.hand_over();
        drop(self.pieces);
        self.handle.join().expect("hashing does not panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(data: &[u8], cut: usize) -> [u8; 32] {
        let mut hasher = Hasher::new();
        for piece in data.chunks(cut) {
            hasher.update(piece);
        }
        assert_eq!(hasher.count(), data.len() as u64);
        hasher.finish()
    }

    #[test]
    fn an_unfinished_hash_can_be_dropped() {
        let mut hasher = Hasher::new();
        hasher.update(&vec![0; 2 * LONG as usize]);
        assert!(hasher.count() > LONG);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn long_streams_hash_as_short_ones_do(
            extra in 0..3 * PIECE,
            cut in prop_oneof![1..5_000_usize, PIECE - 1..PIECE + 2, Just(usize::MAX)],
        ) {
            for length in [extra, LONG as usize - 1, LONG as usize + extra] {
                let data: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
                let whole: [u8; 32] = Sha256::digest(&data).into();
                prop_assert_eq!(hash(&data, cut.clamp(1, length.max(1))), whole);
                let mut hasher = Hasher::new();
                hasher.update(&data[..length / 2]);
                prop_assert_eq!(hasher.so_far(), hash(&data[..length / 2], 1 << 20));
                hasher.update(&data[length / 2..]);
                prop_assert_eq!(hasher.so_far(), whole);
            }
        }
    }
}
