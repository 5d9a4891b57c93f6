//! Files of saved guests: what is none is refused, and what is not whole never has a name.

use el2_hyp::record::checksum::checksum;

use super::*;

/// The record that the format's own tests compare.
fn golden() -> Vec<u8> {
    let text = include_str!("../../../el2-hyp/src/record/golden.txt");
    let digits = text.chars().filter_map(|digit| digit.to_digit(16));
    let digits: Vec<_> = digits.map(|digit| digit as u8).collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// What is said of a file with these bytes; nothing if it is in order.
fn said(bytes: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web.hearth");
    fs::write(&path, bytes).expect("a file");
    match inspect(&path) {
        Ok(contents) => {
            assert_eq!(contents.bytes, bytes.len() as u64);
            None
        }
        Err(Failure::Trouble(trouble)) => Some(trouble),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_record_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web.hearth");
    fs::write(&path, golden()).expect("a file");
    let contents = inspect(&path).expect("a record");
    assert_eq!(contents.header.vcpus, 2);
    assert_eq!(contents.images, [[0xab; 32], [0; 32]]);
}

#[test]
fn what_is_cut_off_is_refused_wherever_that_is() {
    let golden = golden();
    for length in (0..golden.len()).step_by(7).chain([golden.len() - 1]) {
        let said = said(&golden[..length]).expect("refused");
        assert!(said.contains("it is cut off"), "{length}: {said}");
    }
}

#[test]
fn what_is_damaged_is_refused_wherever_that_is() {
    let golden = golden();
    for at in (0..golden.len()).step_by(5) {
        let mut damaged = golden.clone();
        damaged[at] ^= 0x10;
        let said = said(&damaged).expect("refused");
        assert!(said.contains("cannot be restored"), "{at}: {said}");
    }
}

#[test]
fn what_is_something_else_is_refused_as_that() {
    let mut longer = golden();
    longer.push(0);
    assert!(said(&longer).expect("refused").contains("it is cut off"));
    let twice = golden().repeat(2);
    assert!(
        said(&twice)
            .expect("refused")
            .contains("something follows its end")
    );
    let text = said(&[b'#'; 4096]).expect("refused");
    assert!(text.contains("it is no saved guest"), "{text}");
}

#[test]
fn another_version_is_refused_as_that() {
    let mut other = golden();
    // The version stands behind the section's head and the first bytes of a record.
    other[HEAD_BYTES + 8] += 1;
    let length = other[LENGTH_AT..]
        .first_chunk()
        .map(|it| u32::from_le_bytes(*it));
    let end = HEAD_BYTES + length.expect("a head") as usize;
    let sum = checksum([&other[..HEAD_BYTES - 4], &other[HEAD_BYTES..end]]);
    other[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
    let said = said(&other).expect("refused");
    assert!(said.contains("another version of the format"), "{said}");
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|entry| name(entry).into_string().expect("text"))
        .collect()
}

#[test]
fn a_file_has_its_name_when_it_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web.hearth");
    let mut draft = Draft::begin(&path, false).expect("room");
    draft.write(b"one").expect("room");
    assert!(!path.exists());
    draft.finish().expect("a file");
    assert_eq!(fs::read(&path).expect("a file"), b"one");
    let Err(Failure::Trouble(trouble)) = Draft::begin(&path, false) else {
        panic!("it would be replaced");
    };
    assert!(trouble.contains("--force replaces it"), "{trouble}");
    let mut draft = Draft::begin(&path, true).expect("room");
    draft.write(b"two").expect("room");
    drop(draft);
    assert_eq!(fs::read(&path).expect("a file"), b"one");
    assert_eq!(names(folder.path()), ["web.hearth"]);
    Draft::begin(&path, true)
        .expect("room")
        .finish()
        .expect("a file");
    assert_eq!(fs::read(&path).expect("a file"), b"");
}
