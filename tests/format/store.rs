//! The directory of a store: the `format` file, blobs at rest.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use treebox::store::{FormatError, Layout};
use treebox::{Durability, EngineOptions, TreePath, blocking::Engine};

fn format_of(root: &Path, text: &[u8]) -> Result<Layout, FormatError> {
    fs::create_dir_all(root).unwrap();
    fs::write(root.join("format"), text).unwrap();
    Layout::open_or_create(root)
}

#[test]
fn a_new_store_has_the_pinned_format_file_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    Layout::open_or_create(&root).unwrap();
    assert_eq!(fs::read(root.join("format")).unwrap(), b"treebox store 1\n");
    for name in [".", "objects", "objects/pack", "layers", "tmp"] {
        let mode = fs::metadata(root.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[test]
fn feature_lines_are_ignored_or_refused_by_their_class() {
    let dir = tempfile::tempdir().unwrap();
    assert!(format_of(dir.path(), b"treebox store 1\nignore later-idea\n").is_ok());
    let error = format_of(dir.path(), b"treebox store 1\nrefuse packed-blobs\n").unwrap_err();
    assert!(
        matches!(error, FormatError::Feature { ref feature, .. } if feature == "packed-blobs"),
        "{error}"
    );
    let layout = format_of(dir.path(), b"treebox store 1\nread-only packed-blobs\n").unwrap();
    assert!(layout.read_only().unwrap().contains("`packed-blobs`"));
    assert_eq!(format_of(dir.path(), b"treebox store 1\n").unwrap().read_only(), None);
}

#[test]
fn a_later_version_and_what_is_no_format_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let newer = format_of(dir.path(), b"treebox store 2\n").unwrap_err();
    assert!(matches!(newer, FormatError::Newer { found: 2, .. }), "{newer}");
    for bytes in [&b""[..], b"treebox store\n", b"treebox store x\n", b"\xff\xfe", b"treebox store 1\nodd\n"]
    {
        let error = format_of(dir.path(), bytes).unwrap_err();
        assert!(matches!(error, FormatError::NotAStore(_)), "{bytes:?}: {error}");
    }
}

#[test]
fn a_directory_with_somebodys_files_is_not_made_a_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    assert!(matches!(Layout::open_or_create(dir.path()), Err(FormatError::Occupied(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_blob_lies_raw_under_its_hash_and_damage_is_noticed_at_the_last_read() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("greeting"), b"hello\n").unwrap();
    let store = dir.path().join("store");
    let engine = Engine::open(EngineOptions::at(&store).durability(Durability::Batch)).unwrap();
    let import = treebox::ImportSource::Directory(source);
    let state = engine.import(&import, Some("greeting:latest")).unwrap().state;
    // What `printf 'hello\n' | b3sum` prints.
    let blob = store.join("objects/8e/4c7c1b99dbfd50e7a95185fead5ee1448fa904a2fdd778eaf5f2dbfd629a99");
    assert_eq!(fs::read(&blob).unwrap(), b"hello\n");
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&blob, b"hellx\n").unwrap();
    let read = engine.read_file(&state, &TreePath::parse(b"/greeting").unwrap());
    assert!(read.is_err(), "damaged bytes were read as sound: {read:?}");
}
