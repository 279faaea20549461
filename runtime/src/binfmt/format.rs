//! How programs for other processors are recognised: the beginning of an ELF file.
//!
//! Responsible for the table of architectures, under qemu's names, and for the registration that
//! binfmt_misc reads (Documentation/admin-guide/binfmt-misc.rst). Must not look at the machine.

use std::fmt::Write;

/// What the files of an architecture's programs begin with; elf(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// qemu's name: its program is `qemu-NAME-static`.
    pub name: &'static str,
    bits_64: bool,
    big_endian: bool,
    machine: u16,
}

const fn little(name: &'static str, bits_64: bool, machine: u16) -> Format {
    Format {
        name,
        bits_64,
        big_endian: false,
        machine,
    }
}

const fn big(name: &'static str, bits_64: bool, machine: u16) -> Format {
    Format {
        name,
        bits_64,
        big_endian: true,
        machine,
    }
}

/// The architectures that container images are made for. Machine numbers are those of the kernel's
/// `elf-em.h`.
const FORMATS: [Format; 13] = [
    little("aarch64", true, 183),
    little("arm", false, 40),
    little("i386", false, 3),
    little("loongarch64", true, 258),
    big("mips", false, 8),
    big("mips64", true, 8),
    little("mips64el", true, 8),
    little("mipsel", false, 8),
    big("ppc64", true, 21),
    little("ppc64le", true, 21),
    little("riscv64", true, 243),
    big("s390x", true, 22),
    little("x86_64", true, 62),
];

/// Length of what is compared: up to and with `e_machine`.
const LENGTH: usize = 20;

impl Format {
    /// Finds an architecture by qemu's name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// Returns the bytes to compare with, and which bits of them count. Programs are of type 2 or,
    /// position-independent, 3; the ABI's bytes may be anything.
    fn pattern(&self) -> ([u8; LENGTH], [u8; LENGTH]) {
        let mut magic = [0; LENGTH];
        let mut mask = [0xff; LENGTH];
        magic[..4].copy_from_slice(b"\x7fELF");
        magic[4] = if self.bits_64 { 2 } else { 1 };
        magic[5] = if self.big_endian { 2 } else { 1 };
        magic[6] = 1;
        mask[7] = 0;
        mask[8] = 0;
        let (kind, machine) = if self.big_endian {
            (17, self.machine.to_be_bytes())
        } else {
            (16, self.machine.to_le_bytes())
        };
        magic[kind] = 2;
        mask[kind] = 0xfe;
        magic[18..].copy_from_slice(&machine);
        (magic, mask)
    }

    /// Returns the line for binfmt_misc's `register`. The interpreter is opened at once (`F`), gets
    /// the program opened (`O`) and its first argument as the caller gave it (`P`), and has the
    /// rights of a set-id program that it interprets (`C`).
    pub(super) fn registration(&self, interpreter: &str) -> String {
        let escaped = |bytes: [u8; LENGTH]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                // Writing to a string can't be refused.
                let _: std::fmt::Result = write!(text, "\\x{byte:02x}");
                text
            })
        };
        let (magic, mask) = self.pattern();
        format!(
            ":qemu-{}:M::{}:{}:{interpreter}:POCF",
            self.name,
            escaped(magic),
            escaped(mask)
        )
    }

    /// Tells whether a registration, as binfmt_misc shows it, is for such programs and works in a
    /// container whatever files that has.
    pub(super) fn is_served_by(&self, entry: &str) -> bool {
        let field = |name: &str| {
            let line = entry.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default()
        };
        let bytes = |text: &str| -> Option<Vec<u8>> {
            let pairs = text.as_bytes().chunks(2);
            pairs
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect()
        };
        let Some(magic) = bytes(field("magic ")).filter(|magic| !magic.is_empty()) else {
            return false;
        };
        let mask = bytes(field("mask ")).unwrap_or_default();
        let (own, _) = self.pattern();
        let fits = magic.iter().enumerate().all(|(at, byte)| {
            let mask = mask.get(at).copied().unwrap_or(0xff);
            own.get(at).copied().unwrap_or(0) & mask == byte & mask
        });
        entry.lines().next() == Some("enabled")
            && field("offset ") == "0"
            && field("flags: ").contains('F')
            && fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_as_the_kernel_reads_them() {
        let line = Format::named("aarch64").expect("known").registration("/q");
        assert_eq!(
            line,
            ":qemu-aarch64:M::\
             \\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\
             \\x02\\x00\\xb7\\x00:\
             \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\
             \\xfe\\xff\\xff\\xff:/q:POCF"
        );
        let line = Format::named("s390x").expect("known").registration("/q");
        assert!(line.contains("\\x00\\x02\\x00\\x16:"), "{line}");
        assert!(line.contains("\\xff\\xfe\\xff\\xff:/q"), "{line}");
    }

    /// What Debian's qemu-user-static registers, and variations.
    #[test]
    fn a_machine_s_own_registrations_are_understood() {
        let entry = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\n\
                     flags: POCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\n\
                     mask ffffffffffffff00fffffffffffffffffeffffff\n";
        let serves = |name: &str, entry: &str| {
            let format = Format::named(name).expect("known");
            format.is_served_by(entry)
        };
        assert!(serves("aarch64", entry));
        assert!(!serves("arm", entry));
        assert!(!serves("aarch64", &entry.replace("POCF", "OC")));
        assert!(!serves("aarch64", &entry.replace("enabled", "disabled")));
        assert!(!serves("aarch64", "enabled\nextension .x\nflags: F\n"));
        assert!(!serves("aarch64", ""));
    }

    #[test]
    fn no_two_look_alike() {
        for (at, one) in FORMATS.iter().enumerate() {
            for other in &FORMATS[at + 1..] {
                assert_ne!(one.pattern(), other.pattern());
                assert_ne!(one.name, other.name);
            }
        }
    }
}
