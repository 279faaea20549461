//! Values of `--output`: what each becomes, and what is refused by name.

use super::*;
use crate::image::annotations::Level;

#[test]
fn targets() {
    let path = |p: &str| Dest::Path(p.into());
    let local = |dest: &str, delete| Target::Local {
        dest: dest.into(),
        delete,
    };
    let stored = ImageTarget::STORE;
    let image = Target::Image;
    for (text, target) in [
        ("out", local("out", false)),
        ("-", Target::Tar(Dest::Stdout)),
        ("type=local,dest=a b", local("a b", false)),
        ("type=local,dest=a,mode=delete", local("a", true)),
        ("type=none", Target::None),
        ("type=cacheonly", Target::None),
        ("type=tar", Target::Tar(Dest::Stdout)),
        ("type=tar,dest=x.tar", Target::Tar(path("x.tar"))),
        ("type=image", image(stored)),
        (
            "type=image,push=true",
            image(ImageTarget {
                push: true,
                ..stored
            }),
        ),
        ("type=registry", image(ImageTarget::PUSH)),
        ("type=registry,push=false", image(stored)),
        (
            "type=image,push=true,push-by-digest=true,name=r.io/a/b",
            image(ImageTarget {
                by_digest: true,
                ..ImageTarget::PUSH
            }),
        ),
        (
            "type=image,unpack=true,name-canonical=1,store=true",
            image(ImageTarget {
                canonical: true,
                unpack: true,
                ..stored
            }),
        ),
        (
            "\"type=oci\",\"dest=a,\"\"b\"\".tar\"",
            Target::Archive {
                format: ArchiveFormat::Oci,
                dest: path("a,\"b\".tar"),
                tar: true,
            },
        ),
        (
            "type=docker,tar=false,dest=dir",
            Target::Archive {
                format: ArchiveFormat::Docker,
                dest: path("dir"),
                tar: false,
            },
        ),
    ] {
        assert_eq!(parse(text).expect(text).target, target, "{text}");
    }
}

#[test]
fn forms() {
    let output = parse(
        "type=oci,dest=x,\"name=app:1,app:2\",compression=zstd,compression-level=9,\
         force-compression=true,annotation.a.B=c=d,annotation-manifest-descriptor.e=f,\
         source-date-epoch=7,rewrite-timestamp=true",
    )
    .expect("output");
    assert_eq!(output.names.len(), 2);
    let form = output.form;
    let zstd = Packing::Stream(Compression::Zstd { level: 9 });
    assert_eq!(form.compression, Some(zstd));
    assert!(form.force_compression && form.oci_media_types);
    let host = crate::image::platform::Platform::host();
    assert_eq!(form.annotations.on(Level::Manifest, &host)["a.B"], "c=d");
    assert_eq!(
        form.annotations.on(Level::ManifestDescriptor, &host)["e"],
        "f"
    );
    assert_eq!(output.epoch, Some(7));
    assert_eq!(output.rewrite_timestamp, Some(true));
    let level = parse("type=image,compression-level=3").expect("level alone");
    let gzip = Some(Packing::Stream(Compression::Gzip { level: 3 }));
    assert_eq!(level.form.compression, gzip);
    for (text, wanted) in [
        ("type=registry,compression=estargz", 5),
        ("type=image,compression=estargz,compression-level=9", 9),
    ] {
        let form = parse(text).expect(text).form;
        let estargz = Some(Packing::Estargz { level: wanted });
        assert_eq!(form.compression, estargz, "{text}");
    }
}

#[test]
fn errors_name_what_is_wrong() {
    for (text, wanted) in [
        ("", "empty"),
        ("dest=x", "no type"),
        ("type=x", "`x`"),
        ("type=local", "directory"),
        ("type=local,dest=-", "directory"),
        ("type=oci,tar=false", "directory"),
        ("type=oci,dest", "`dest`"),
        ("type=oci,type=oci", "`type`"),
        ("type=oci,unpack=true", "`unpack`"),
        ("type=tar,compression=gzip", "`compression`"),
        ("type=oci,compression=zstd:chunked", "`zstd:chunked`"),
        ("type=tar,compression=estargz", "`compression`"),
        ("type=oci,compression=estargz,compression-level=-1", "-1"),
        (
            "type=oci,compression=estargz,oci-mediatypes=false",
            "estargz",
        ),
        ("type=oci,compression=gzip,compression-level=10", "10"),
        ("type=oci,compression=zstd,compression-level=x", "`x`"),
        ("type=oci,compression=zstd,oci-mediatypes=false", "zstd"),
        ("type=oci,oci-mediatypes=maybe", "maybe"),
        ("type=oci,annotation-x.a=b", "annotation-x.a"),
        ("type=local,dest=x,annotation.a=b", "annotation.a"),
        ("type=local,dest=x,mode=move", "`move`"),
        ("type=tar,mode=delete", "`mode`"),
        ("type=none,dest=x", "`dest`"),
        ("type=none,source-date-epoch=1", "source-date-epoch"),
        ("type=oci,source-date-epoch=x", "`x`"),
        ("type=tar,rewrite-timestamp=true", "rewrite-timestamp"),
        ("type=oci,push=true", "`push`"),
        ("type=image,push-by-digest=true", "without push"),
        ("type=registry,push-by-digest=true", "without a name"),
        ("type=registry,push-by-digest=true,name=a:1", "`a:1`"),
        (
            "type=registry,push-by-digest=true,store=true,name=a",
            "store",
        ),
        ("type=image,store=false", "nothing to do"),
        ("type=image,registry.insecure=true", "registry.insecure"),
        ("type=oci,\"dest=x", "quote"),
        ("type=image,name=UPPER", "UPPER"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.to_string().contains(wanted), "{text}: {error}");
        assert_eq!(error.get_kind(), Kind::Usage, "{text}");
    }
}
