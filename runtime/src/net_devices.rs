//! Network interfaces that a container takes over (`linux.netDevices`, runtime-spec 1.3).
//!
//! Responsible for moving interfaces of the caller's network namespace into the container's, with
//! the permanent global addresses that they have, and for setting them up there. Must not make or
//! remove any: they go back or away with the namespace (network_namespaces(7)). Invariant: the
//! calling thread ends in the network namespace that it began in, or the error says that it did
//! not and the process must end.
//!
//! Messages are those of rtnetlink(7), netlink(7). Routes are not kept, as with runc 1.4.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, Result, ResultExt};
use crate::spec::NetDevice;

/// Moves interfaces, by their names here, into a network namespace. Needs `CAP_NET_ADMIN` over
/// both and `CAP_SYS_ADMIN` over the other.
///
/// # Errors
/// There is no such interface, the name is taken there, or the kernel refuses.
pub fn move_all(devices: &BTreeMap<String, NetDevice>, namespace: BorrowedFd<'_>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let here = Link::open().op("open netlink socket")?;
    let there = open_there(namespace)?;
    for (name, device) in devices {
        let target = if device.name.is_empty() {
            name
        } else {
            &device.name
        };
        let op = |e: Errno| Error::new("move network interface").path(name).cause(e);
        let index = name_to_index(&here.socket, name).map_err(op)?;
        // Linux 6.18 moves the interface first and then finds that the name is taken.
        match name_to_index(&there.socket, target) {
            Ok(_) => return Err(op(Errno::EXIST)),
            Err(Errno::NODEV) => {}
            Err(e) => return Err(op(e)),
        }
        let addresses = here.addresses(index).map_err(op)?;
        here.move_link(index, namespace, target).map_err(op)?;
        // The index may be another one there.
        let op = |e: Errno| Error::new("set up network interface").path(target).cause(e);
        let index = name_to_index(&there.socket, target).map_err(op)?;
        for address in &addresses {
            there.add_address(index, address).map_err(op)?;
        }
        there.set_up(index).map_err(op)?;
    }
    Ok(())
}

/// Opens a netlink socket of another network namespace.
fn open_there(namespace: BorrowedFd<'_>) -> Result<Link> {
    const OWN: &str = "/proc/thread-self/ns/net";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::open(Path::new(OWN), flags, Mode::empty())
        .op_path("open network namespace", OWN)?;
    let enter = |fd| move_into_link_name_space(fd, Some(LinkNameSpaceType::Network));
    enter(namespace).op("enter network namespace")?;
    let link = Link::open();
    enter(own.as_fd()).op("return to the network namespace")?;
    link.op("open netlink socket")
}

/// A socket to the kernel's network configuration.
struct Link {
    socket: OwnedFd,
}

/// One address of an interface, as the kernel described it.
struct Address {
    family: u8,
    prefix: u8,
    /// `IFA_ADDRESS`, `IFA_LOCAL`, `IFA_BROADCAST`.
    parts: Vec<(u16, Vec<u8>)>,
}

/// Numbers of include/uapi/linux/netlink.h, rtnetlink.h, if_link.h and if_addr.h.
mod number {
    pub(super) const REQUEST: u16 = 0x1;
    pub(super) const ACK: u16 = 0x4;
    pub(super) const DUMP: u16 = 0x300;
    pub(super) const EXCL: u16 = 0x200;
    pub(super) const CREATE: u16 = 0x400;
    pub(super) const ERROR: u16 = 2;
    pub(super) const DONE: u16 = 3;
    pub(super) const SET_LINK: u16 = 19;
    pub(super) const NEW_ADDRESS: u16 = 20;
    pub(super) const GET_ADDRESS: u16 = 22;
    pub(super) const LINK_NAME: u16 = 3;
    pub(super) const LINK_NAMESPACE_FD: u16 = 28;
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const BROADCAST: u16 = 4;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const PERMANENT: u32 = 0x80;
    pub(super) const UNIVERSE: u8 = 0;
    pub(super) const UP: u32 = 1;
}

/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Size of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;

impl Link {
    fn open() -> rustix::io::Result<Self> {
        let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::NETLINK, kind, flags, None)?;
        Ok(Self { socket })
    }

    fn move_link(
        &self,
        index: u32,
        namespace: BorrowedFd<'_>,
        name: &str,
    ) -> rustix::io::Result<()> {
        use std::os::fd::AsRawFd;
        let fd: RawFd = namespace.as_raw_fd();
        let mut body = link_header(index, 0);
        attribute(
            &mut body,
            number::LINK_NAME,
            &[name.as_bytes(), b"\0"].concat(),
        );
        attribute(&mut body, number::LINK_NAMESPACE_FD, &fd.to_ne_bytes());
        self.ask(number::SET_LINK, number::ACK, &body, &mut |_, _| {})
    }

    fn set_up(&self, index: u32) -> rustix::io::Result<()> {
        let body = link_header(index, number::UP);
        self.ask(number::SET_LINK, number::ACK, &body, &mut |_, _| {})
    }

    /// The addresses that are kept: permanent and global ones.
    fn addresses(&self, index: u32) -> rustix::io::Result<Vec<Address>> {
        let mut found = Vec::new();
        let body = [0; ADDRESS_HEADER];
        self.ask(
            number::GET_ADDRESS,
            number::DUMP,
            &body,
            &mut |kind, body| {
                if kind == number::NEW_ADDRESS
                    && let Some(address) = read_address(body, index)
                {
                    found.push(address);
                }
            },
        )?;
        Ok(found)
    }

    fn add_address(&self, index: u32, address: &Address) -> rustix::io::Result<()> {
        let mut body = vec![address.family, address.prefix, 0, number::UNIVERSE];
        body.extend(index.to_ne_bytes());
        for (kind, value) in &address.parts {
            attribute(&mut body, *kind, value);
        }
        let flags = number::ACK | number::CREATE | number::EXCL;
        match self.ask(number::NEW_ADDRESS, flags, &body, &mut |_, _| {}) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    /// Sends a request and gives each answer to `take`, until the last one.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        take: &mut dyn FnMut(u16, &[u8]),
    ) -> rustix::io::Result<()> {
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::MSGSIZE)?;
        let mut message = Vec::new();
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | number::REQUEST).to_ne_bytes());
        // Sequence and port: one request at a time, on a socket of its own.
        message.extend([0; 8]);
        message.extend_from_slice(body);
        send(&self.socket, &message, SendFlags::empty())?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let receive = || recv(&self.socket, &mut *buffer, RecvFlags::empty());
            let (read, _) = rustix::io::retry_on_intr(receive)?;
            let mut rest = buffer.get(..read).unwrap_or_default();
            while let Some((kind, body, next)) = next_message(rest) {
                rest = next;
                match kind {
                    number::DONE => return Ok(()),
                    number::ERROR => {
                        return match number_at(body, 0) {
                            Some(0) => Ok(()),
                            Some(errno) => Err(Errno::from_raw_os_error(-errno.cast_signed())),
                            None => Err(Errno::BADMSG),
                        };
                    }
                    kind => take(kind, body),
                }
            }
            if read == 0 || !rest.is_empty() {
                return Err(Errno::BADMSG);
            }
        }
    }
}

/// `struct ifinfomsg`, with flags that are set.
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for part in [index, flags, flags] {
        body.extend(part.to_ne_bytes());
    }
    body
}

/// Appends an attribute, filled up to a multiple of four.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Names and addresses are short.
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn short_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

/// Takes the first message: its kind, its body, and what follows it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(number_at(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((short_at(bytes, 4)?, body, next))
}

fn read_address(body: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope] = *body.first_chunk()?;
    if number_at(body, 4)? != index || scope != number::UNIVERSE {
        return None;
    }
    let mut flags = u32::from(flags);
    let mut parts = Vec::new();
    let mut rest = body.get(ADDRESS_HEADER..)?;
    while let (Some(length), Some(kind)) = (short_at(rest, 0), short_at(rest, 2)) {
        let length = usize::from(length);
        let value = rest.get(4..length)?;
        match kind {
            number::FLAGS => flags = number_at(value, 0)?,
            number::ADDRESS | number::LOCAL | number::BROADCAST => {
                parts.push((kind, value.to_vec()));
            }
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    (flags & number::PERMANENT != 0).then_some(Address {
        family,
        prefix,
        parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::Command;

    fn ip(arguments: &str) -> String {
        let output = Command::new("ip").args(arguments.split(' ')).output();
        let output = output.expect("ip of iproute2");
        assert!(output.status.success(), "ip {arguments}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn enter_new() -> rustix::io::Result<File> {
        crate::sys::unshare(libc::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net").expect("open"))
    }

    /// In a thread of its own, whose namespaces are its own.
    #[test]
    fn addresses_come_along_and_the_name_changes() {
        let test = || {
            let Ok(there) = enter_new() else {
                println!("SKIP: no network namespace without CAP_SYS_ADMIN");
                return;
            };
            ip("link add taken type veth peer name other");
            let _here = enter_new().expect("a second namespace");
            ip("link add v0 type veth peer name v1");
            ip("addr add 10.9.0.1/24 brd 10.9.0.255 dev v0");
            ip("addr add 169.254.1.1/16 scope link dev v0");
            ip("link set v1 up");
            let device = |name: &str| NetDevice {
                name: name.to_owned(),
            };
            let moved = |from: &str, to: &str| {
                let devices = [(from.to_owned(), device(to))].into();
                move_all(&devices, there.as_fd()).map_err(|e| e.errno())
            };
            assert_eq!(moved("missing", ""), Err(Some(libc::ENODEV)));
            assert_eq!(moved("v0", "taken"), Err(Some(libc::EEXIST)));
            assert_eq!(moved("v0", "inside"), Ok(()));
            assert!(!ip("-o link").contains("v0:"), "it is gone here");
            let enter = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(there.as_fd(), enter).expect("enter");
            let text = ip("-o -4 addr show dev inside");
            assert!(text.contains("10.9.0.1/24 brd 10.9.0.255"), "{text}");
            assert!(!text.contains("169.254"), "{text}");
            let link = ip("-o link show dev inside");
            assert!(link.contains("UP"), "{link}");
        };
        std::thread::spawn(test).join().expect("the test");
    }

    #[test]
    fn messages_that_are_cut_short_are_not_read() {
        let mut message = vec![24, 0, 0, 0, 20, 0, 0, 0];
        message.extend([0; 8]);
        assert!(next_message(&message).is_none());
        message.extend([2, 24, 0x80, 0, 7, 0, 0, 0]);
        let (kind, body, rest) = next_message(&message).expect("whole");
        assert_eq!((kind, rest.len()), (20, 0));
        let address = read_address(body, 7).expect("an address");
        assert_eq!((address.family, address.prefix), (2, 24));
        assert!(read_address(body, 8).is_none());
        assert!(read_address(&body[..7], 7).is_none());
    }
}
