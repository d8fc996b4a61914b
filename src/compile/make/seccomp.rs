//! What the kernel answers a build to calls that no namespace covers.

/// One instruction of the kernel's packet filter: its code, how far it jumps if true and if not, and a number.
type Instruction = (u16, u8, u8, u32);

const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const ANSWER: u16 = 0x06;

/// Where the number of a call stands, the kind of processors it is for, and its first argument.
const CALL: u32 = 0;
const KIND: u32 = 4;
const FIRST: u32 = 16;

const X86_64: u32 = 0xc000_003e;
/// Calls from here on are those of a third kind, x32.
const X32: u32 = 0x4000_0000;
const SOCKET: u32 = 41;
const ADD_KEY: u32 = 248;
const REQUEST_KEY: u32 = 249;
const KEYCTL: u32 = 250;
const IO_URING_SETUP: u32 = 425;
/// Sockets to the hypervisor, which have no network that could be taken away.
const VSOCK: u32 = 40;

const ALLOWED: u32 = 0x7fff_0000;
const NOT_PERMITTED: u32 = 0x0005_0001;
const NOT_KNOWN: u32 = 0x0005_0026;

/// Keys are the caller's, whoever asks; a ring of requests would pass by this filter; calls of other kinds of processors have other numbers.
const PROGRAM: [Instruction; 14] = [
    (LOAD, 0, 0, KIND),
    (IF_EQUAL, 1, 0, X86_64),
    (ANSWER, 0, 0, NOT_KNOWN),
    (LOAD, 0, 0, CALL),
    (IF_AT_LEAST, 8, 0, X32),
    (IF_EQUAL, 7, 0, ADD_KEY),
    (IF_EQUAL, 6, 0, REQUEST_KEY),
    (IF_EQUAL, 5, 0, KEYCTL),
    (IF_EQUAL, 4, 0, IO_URING_SETUP),
    (IF_EQUAL, 0, 2, SOCKET),
    (LOAD, 0, 0, FIRST),
    (IF_EQUAL, 1, 0, VSOCK),
    (ANSWER, 0, 0, ALLOWED),
    (ANSWER, 0, 0, NOT_PERMITTED),
];

/// The filter as the kernel reads it.
pub(super) fn filter() -> Vec<u8> {
    let bytes = |(code, yes, no, number): Instruction| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([yes, no]);
        bytes.extend(number.to_ne_bytes());
        bytes
    };
    PROGRAM.into_iter().flat_map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, by the rules of the kernel.
    fn answer(kind: u32, call: u32, first: u32) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let (code, yes, no, number) = PROGRAM[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    held = [(CALL, call), (KIND, kind), (FIRST, first)]
                        .into_iter()
                        .find(|(of, _)| *of == number)
                        .unwrap()
                        .1;
                    continue;
                }
                IF_EQUAL => held == number,
                IF_AT_LEAST => held >= number,
                _ => return number,
            };
            at += usize::from(if holds { yes } else { no });
        }
    }

    #[test]
    fn keys_and_ways_around_are_refused_and_all_else_is_not() {
        for call in [ADD_KEY, REQUEST_KEY, KEYCTL, IO_URING_SETUP, X32, X32 + 1] {
            assert_eq!(answer(X86_64, call, 0), NOT_PERMITTED, "{call}");
        }
        assert_eq!(answer(X86_64, SOCKET, VSOCK), NOT_PERMITTED);
        assert_eq!(answer(0x4000_0003, 1, 0), NOT_KNOWN, "32 bits");
        let others = (0..600).filter(|call| ![ADD_KEY, REQUEST_KEY, KEYCTL, IO_URING_SETUP].contains(call));
        for call in others {
            assert_eq!(answer(X86_64, call, 1), ALLOWED, "{call}");
        }
    }
}
