use super::*;
use crate::files::seal;
use crate::knowledge::fuzzing::headers;

fn manifest() -> Manifest {
    let mut manifest = Manifest::new(headers().swap_remove(5));
    manifest.shards.push(ShardEntry {
        file: Written {
            file: "shard-00000.safetensors".into(),
            bytes: 1234,
            checksum: "0123456789abcdef".into(),
        },
        samples: 10,
        rows: 30,
        keys: "00112233445566778899aabbccddeeff".into(),
    });
    manifest
}

fn unusable(text: &str) -> String {
    let unusable = Manifest::parse(text.as_bytes()).unwrap_err();
    format!("{}; {}", unusable.reason, unusable.remedy)
}

fn text() -> String {
    String::from_utf8(manifest().to_bytes()).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let back = Manifest::parse(text().as_bytes()).unwrap();
    let expected = Manifest {
        checksum: back.checksum.clone(),
        ..manifest()
    };
    assert_eq!(back, expected);
    assert_eq!(back.samples(), 10);
}

#[test]
fn a_change_anywhere_is_noticed() {
    let text = manifest().to_bytes();
    for at in 0..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 1;
        assert!(Manifest::parse(&changed).is_err(), "byte {at}");
    }
    for length in 0..text.len() {
        assert!(Manifest::parse(&text[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn why_it_cannot_be_used_is_said_in_words() {
    let version = text().replace("\"version\": 1", "\"version\": 2");
    let version = version.replace(env!("CARGO_PKG_VERSION"), "9.0.0");
    assert_eq!(
        unusable(&version),
        format!(
            "has format version 2 of burn-distill 9.0.0, this is {} and reads version 1; read it with \
             that version",
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(
        unusable(r#"{"format": "a model", "version": 1, "crate": "1"}"#),
        "is a manifest of \"a model\", expected \"burn-distill knowledge\"; \
         name a directory in which knowledge was recorded"
    );
    assert_eq!(
        unusable("[]"),
        "is no manifest of knowledge (invalid length 0, expected struct Kind with 3 elements at line 1 \
         column 2); name a directory in which knowledge was recorded"
    );
    let remedy = "; bring it back from a copy, or record again into another directory";
    assert_eq!(
        unusable(&text().replace("\"samples\": 10", "\"samples\": 11")),
        format!("was changed: its checksum is another{remedy}")
    );
    assert_eq!(
        unusable(&format!(" {}", text())),
        format!("does not begin with its checksum{remedy}")
    );
}

/// Whoever means to can compute a checksum.
fn sealed(text: &str) -> String {
    String::from_utf8(seal(text.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_sealed_manifest_is_not_trusted_either() {
    for name in ["../shard", "/etc/passwd", ".lock", "a\\\\b"] {
        let text = sealed(&text().replace("shard-00000.safetensors", name));
        assert!(
            unusable(&text).starts_with("names a file outside of its directory"),
            "{name}"
        );
    }
    let mut many = manifest();
    many.shards[0].samples = u64::MAX;
    many.shards.push(many.shards[0].clone());
    let text = String::from_utf8(many.to_bytes()).unwrap();
    assert!(unusable(&text).starts_with("counts more samples than there can be"));
    let unknown = sealed(&text.replace("\"complete\"", "\"finished\""));
    assert!(unusable(&unknown).starts_with("cannot be understood: unknown field `finished`"));
}
