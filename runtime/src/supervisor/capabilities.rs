//! Capabilities: capget(2), capset(2), and the options of prctl(2) about them.
//!
//! Responsible for the layouts in a caller's memory. Must not know the rules;
//! [`super::credentials`] does. Invariant: the kernel's capabilities of a process never change.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::State;
use super::call::{Answer, Call, DONE, Outcome, Stop};
use super::credentials::DUMPABLE;

/// `_LINUX_CAPABILITY_VERSION_1`: 32 bits in each set.
const VERSION_1: u32 = 0x1998_0330;
/// `_LINUX_CAPABILITY_VERSION_2` and `_3`: 64 bits, in two halves.
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_data_struct`: effective, permitted, inheritable.
const DATA: usize = 12;

/// What [`prctl`] answers; the filter forwards these options only.
pub(super) const OPTIONS: &[u64] = &[
    libc::PR_GET_KEEPCAPS as u64,
    libc::PR_SET_KEEPCAPS as u64,
    libc::PR_CAPBSET_READ as u64,
    libc::PR_CAPBSET_DROP as u64,
    libc::PR_GET_SECUREBITS as u64,
    libc::PR_SET_SECUREBITS as u64,
    libc::PR_CAP_AMBIENT as u64,
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_SET_DUMPABLE as u64,
];

/// `struct __user_cap_header_struct`, and how many halves its version has.
struct Header {
    process: i32,
    halves: usize,
}

/// Reads a header. A version that is not known is an error after the best one is told.
fn header(call: &Call<'_>) -> Result<Header, Stop> {
    let mut header = [0; 8];
    call.read(call.word(0), &mut header)?;
    let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    let halves = match u32::from_ne_bytes(word(0)) {
        VERSION_1 => 1,
        VERSION_2 | VERSION_3 => 2,
        _ => {
            call.write(call.word(0), &VERSION_3.to_ne_bytes())?;
            return Err(Errno::INVAL.into());
        }
    };
    Ok(Header {
        process: i32::from_ne_bytes(word(4)),
        halves,
    })
}

fn encode(sets: [CapabilitySet; 3], halves: usize) -> Vec<u8> {
    (0..halves)
        .flat_map(|half| {
            sets.map(|set| {
                let bits = set.bits() >> (32 * half) & u64::from(u32::MAX);
                u32::try_from(bits).unwrap_or_default()
            })
        })
        .flat_map(u32::to_ne_bytes)
        .collect()
}

fn decode(data: &[u8]) -> [CapabilitySet; 3] {
    let mut sets = [0; 3];
    for (index, word) in data.as_chunks().0.iter().enumerate() {
        sets[index % 3] |= u64::from(u32::from_ne_bytes(*word)) << (32 * (index / 3));
    }
    sets.map(CapabilitySet::from_bits_retain)
}

/// capget(2): header, data.
pub(super) fn capget(state: &mut State, call: &Call<'_>) -> Outcome {
    let asks_version = call.word(1) == 0;
    let header = match header(call) {
        Err(Stop::Errno(Errno::INVAL)) if asks_version => return DONE,
        header => header?,
    };
    if asks_version {
        return DONE;
    }
    let credentials = match header.process {
        0 => state.caller(call)?.credentials,
        ..0 => return Err(Errno::INVAL.into()),
        process => state.credentials_of(process).ok_or(Errno::SRCH)?,
    };
    let sets = [
        credentials.effective,
        credentials.permitted,
        credentials.inheritable,
    ];
    call.write(call.word(1), &encode(sets, header.halves))?;
    DONE
}

/// capset(2): header, data.
pub(super) fn capset(state: &mut State, call: &Call<'_>) -> Outcome {
    let header = header(call)?;
    let is_own = || {
        let (_, thread) = call.numbers()?;
        (u32::try_from(header.process).ok()? == thread).then_some(())
    };
    if header.process != 0 && is_own().is_none() {
        return Err(Errno::PERM.into());
    }
    let mut data = [0; 2 * DATA];
    let data = &mut data[..header.halves * DATA];
    call.read(call.word(1), data)?;
    let [effective, permitted, inheritable] = decode(data);
    state.change(call, |c| c.capset(effective, permitted, inheritable))
}

/// prctl(2): option and its arguments.
pub(super) fn prctl(state: &mut State, call: &Call<'_>) -> Outcome {
    let argument = call.word(1);
    match call.int(0) {
        libc::PR_GET_KEEPCAPS => truth(state.caller(call)?.credentials.keeps_capabilities()),
        libc::PR_SET_KEEPCAPS => state.change(call, |c| c.set_keep_capabilities(argument)),
        libc::PR_CAPBSET_READ => truth(state.caller(call)?.credentials.in_bounding(argument)?),
        libc::PR_CAPBSET_DROP => state.change(call, |c| c.drop_bounding(argument)),
        libc::PR_GET_SECUREBITS => {
            let bits = state.caller(call)?.credentials.securebits;
            Ok(Answer::Value(bits.into()))
        }
        libc::PR_SET_SECUREBITS => state.change(call, |c| c.set_securebits(argument)),
        libc::PR_CAP_AMBIENT => ambient(state, call),
        libc::PR_GET_DUMPABLE => {
            let dumpable = state.caller(call)?.credentials.dumpable;
            Ok(Answer::Value(dumpable.into()))
        }
        libc::PR_SET_DUMPABLE => {
            let dumpable = u8::try_from(argument).map_err(|_| Stop::Kernel)?;
            if dumpable > DUMPABLE {
                return Ok(Answer::Continue);
            }
            state.change(call, |c| {
                c.dumpable = dumpable;
                Ok(())
            })?;
            Ok(Answer::Continue)
        }
        _ => Ok(Answer::Continue),
    }
}

fn ambient(state: &mut State, call: &Call<'_>) -> Outcome {
    let [what, capability, fourth, fifth] = [1, 2, 3, 4].map(|index| call.word(index));
    if fourth != 0 || fifth != 0 {
        return Err(Errno::INVAL.into());
    }
    let what = i32::try_from(what).map_err(|_| Errno::INVAL)?;
    match what {
        libc::PR_CAP_AMBIENT_CLEAR_ALL if capability != 0 => Err(Errno::INVAL.into()),
        libc::PR_CAP_AMBIENT_CLEAR_ALL => state.change(call, |c| {
            c.clear_ambient();
            Ok(())
        }),
        libc::PR_CAP_AMBIENT_IS_SET => {
            truth(state.caller(call)?.credentials.in_ambient(capability)?)
        }
        libc::PR_CAP_AMBIENT_RAISE => state.change(call, |c| c.raise_ambient(capability)),
        libc::PR_CAP_AMBIENT_LOWER => state.change(call, |c| c.lower_ambient(capability)),
        _ => Err(Errno::INVAL.into()),
    }
}

fn truth(value: bool) -> Outcome {
    Ok(Answer::Value(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps;

    #[test]
    fn sets_are_in_halves() {
        let high = CapabilitySet::CHECKPOINT_RESTORE | CapabilitySet::CHOWN;
        let sets = [caps::DEFAULT, high, CapabilitySet::empty()];
        let data = encode(sets, 2);
        assert_eq!(data.len(), 2 * DATA);
        assert_eq!(decode(&data), sets);
        let low = encode(sets, 1);
        assert_eq!(decode(&low)[1], CapabilitySet::CHOWN);
    }
}
