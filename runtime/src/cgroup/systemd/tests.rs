//! Units, against a bus that is not systemd's.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::message::{FIXED, Message, RETURN, SIGNAL};
use super::*;
use crate::cgroup::Driver;
use crate::cgroup::layout::Hierarchy;

static NO_ANNOTATIONS: BTreeMap<String, String> = BTreeMap::new();

fn request<'a>(path: &'a str, bus: Option<&'a str>) -> Request<'a> {
    Request {
        id: "c1",
        path,
        resources: None,
        driver: Driver::Systemd,
        rootless: false,
        annotations: &NO_ANNOTATIONS,
        owner: None,
        bus,
    }
}

#[test]
fn slices() {
    for (slice, path) in [
        ("-.slice", "/"),
        ("system.slice", "/system.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
    ] {
        assert_eq!(expand(slice).expect(slice), Path::new(path));
    }
    for slice in [
        "a",
        "a--b.slice",
        "-a.slice",
        "a/b.slice",
        ".slice",
        "a-.slice",
    ] {
        assert!(expand(slice).is_err(), "{slice}");
    }
}

#[test]
fn names() {
    let unit = |path: &str| Name::parse(&request(path, None)).map(|n| (n.slice.clone(), n.unit()));
    let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
    assert_eq!(unit(""), pair("system.slice", "sandcrab-c1.scope"));
    assert_eq!(unit("x.slice:crio:ab"), pair("x.slice", "crio-ab.scope"));
    assert_eq!(unit("::ab"), pair("system.slice", "ab.scope"));
    assert_eq!(unit(":p:x-y.slice"), pair("system.slice", "x-y.slice"));
    for path in ["/a/b", "a:b", "a:b:c:d", "a.slice:b:", "a.slice:b:c/d"] {
        assert!(unit(path).is_err(), "{path}");
    }
    assert_eq!(version_number("252.22-1~deb12u1"), 252);
    assert_eq!(version_number("v254"), 254);
}

#[test]
fn without_a_bus() {
    let mut request = request("", None);
    request.rootless = true;
    let error = create(&Layout::default(), &request).expect_err("no bus");
    assert!(error.hints()[0].contains("DBUS_SESSION_BUS_ADDRESS"));
}

/// What the server was asked, in order.
type Asked = Vec<(String, Vec<Value>)>;

/// Answers as systemd does, until the client closes the last of `connections`.
fn serve(listener: UnixListener, connections: usize, group: PathBuf) -> JoinHandle<Asked> {
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..connections {
            let (mut socket, _) = listener.accept().expect("accept");
            authenticate(&mut socket);
            while let Some(call) = receive(&mut socket) {
                answer(&mut socket, &call, &group);
                asked.push((call.member, call.body));
            }
        }
        asked
    })
}

fn authenticate(socket: &mut UnixStream) {
    let mut line = |want: &str, answer: &str| {
        let mut got = vec![0; want.len()];
        socket.read_exact(&mut got).expect("a line");
        assert_eq!(String::from_utf8_lossy(&got), want);
        socket.write_all(answer.as_bytes()).expect("answer");
    };
    line("\0AUTH EXTERNAL\r\n", "DATA\r\n");
    line("DATA\r\n", "OK 1234deadbeef\r\n");
    line("BEGIN\r\n", "");
}

fn receive(socket: &mut UnixStream) -> Option<Message> {
    let mut start = [0; FIXED];
    socket.read_exact(&mut start).ok()?;
    let mut bytes = start.to_vec();
    bytes.resize(Message::length(&start).expect("a length"), 0);
    socket.read_exact(&mut bytes[FIXED..]).expect("the rest");
    Some(Message::parse(&bytes).expect("a message"))
}

fn answer(socket: &mut UnixStream, call: &Message, group: &Path) {
    let job = Value::Path("/org/freedesktop/systemd1/job/7".to_owned());
    let mut done = false;
    let body = match (
        call.member.as_str(),
        call.body.get(1).and_then(Value::as_str),
    ) {
        ("Get", Some("ControlGroup")) => vec![Value::text("/root").variant()],
        ("Get", Some("Version")) => vec![Value::text("252.1").variant()],
        ("StartTransientUnit", _) => {
            std::fs::create_dir_all(group).expect("mkdir");
            for (file, text) in [
                ("cgroup.procs", ""),
                ("memory.max", "max"),
                ("cgroup.freeze", "0"),
            ] {
                std::fs::write(group.join(file), text).expect("write");
            }
            done = true;
            vec![job.clone()]
        }
        ("StopUnit", _) => {
            drop(std::fs::remove_dir_all(group));
            done = true;
            vec![job.clone()]
        }
        _ => Vec::new(),
    };
    let mut message = Message {
        kind: SIGNAL,
        serial: 100,
        path: MANAGER.path.to_owned(),
        interface: MANAGER.interface.to_owned(),
        member: "JobRemoved".to_owned(),
        body: vec![
            Value::U32(7),
            job,
            Value::text("x.scope"),
            Value::text("done"),
        ],
        ..Message::default()
    };
    // systemd may say that the job is done before it says which job it is.
    if done {
        socket.write_all(&message.to_bytes()).expect("signal");
    }
    message = Message {
        kind: RETURN,
        serial: 101,
        reply_to: Some(call.serial),
        body,
        ..Message::default()
    };
    socket.write_all(&message.to_bytes()).expect("answer");
}

#[test]
fn the_life_of_a_scope() {
    let dir = tempfile::tempdir().expect("a directory");
    let mount = dir.path().join("cgroup");
    std::fs::create_dir(&mount).expect("mkdir");
    let socket = dir.path().join("bus");
    let listener = UnixListener::bind(&socket).expect("bind");
    let directory = mount.join("root/a.slice/a-b.slice/p-c1.scope");
    // create, start, update, stop
    let server = serve(listener, 4, directory.clone());

    let layout = Layout {
        unified: Some(Hierarchy {
            controllers: Vec::new(),
            mount,
            own: Some(PathBuf::from("/x")),
        }),
        legacy: Vec::new(),
    };
    let resources =
        Resources::parse(br#"{"memory":{"limit":4096,"swappiness":1},"devices":[{"allow":true}]}"#)
            .expect("parse");
    let annotations = BTreeMap::from([(
        "org.systemd.property.TimeoutStopSec".to_owned(),
        "uint64 5".to_owned(),
    )]);
    let address = format!("unix:path={}", socket.display());
    let mut request = request("a-b.slice:p:c1", Some(&address));
    request.resources = Some(&resources);
    request.annotations = &annotations;
    let (group, warnings) = create(&layout, &request).expect("create");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(!group.exists() && group.open_for_clone().is_none());

    assert_eq!(group.add(77), Ok(Vec::new()));
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).expect("read");
    assert_eq!(read("memory.max"), "4096");

    let text = serde_json::to_string(&group).expect("write");
    let group: Group = serde_json::from_str(&text).expect("read");
    assert!(group.open_for_clone().is_some());
    assert_eq!(group.add(78), Ok(Vec::new()));
    assert_eq!(read("cgroup.procs"), "78");
    let change = Resources::parse(br#"{"memory":{"limit":8192}}"#).expect("parse");
    group.update(&change).expect("update");
    assert_eq!(read("memory.max"), "8192");
    group.remove().expect("remove");
    assert!(!group.exists());

    let asked = server.join().expect("the server");
    let names: Vec<&str> = asked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Hello",
            "Get", // create
            "Hello",
            "AddMatch",
            "Subscribe",
            "Get",
            "StartTransientUnit", // start
            "Hello",
            "Get",
            "SetUnitProperties", // update
            "Hello",
            "AddMatch",
            "Subscribe",
            "StopUnit",
            "ResetFailedUnit", // stop
        ]
    );
    let start = &asked[6].1;
    assert_eq!(start[0], Value::text("p-c1.scope"));
    let Value::Array(_, list) = &start[2] else {
        panic!("properties");
    };
    let has = |name: &str, value: Value| {
        list.contains(&Value::Struct(vec![Value::text(name), value.variant()]))
    };
    assert!(has("Slice", Value::text("a-b.slice")));
    assert!(has("Delegate", Value::Bool(true)));
    let pids = Value::Array("u".to_owned(), vec![Value::U32(77)]);
    assert!(has("PIDs", pids));
    assert!(has("MemoryMax", Value::U64(4096)));
    assert!(has("TimeoutStopUSec", Value::U64(5_000_000)));
    assert!(has("DevicePolicy", Value::text("auto")));
}
