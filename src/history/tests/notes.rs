use super::*;

fn put(fixture: &Fixture, on: &CommitId, text: Option<&str>) -> bool {
    let text = text.map(|text| text.as_bytes().to_vec());
    let changed =
        fixture.history.edit_note::<EditError>(on, "note", &who(50), &mut |_| Ok(text.clone())).unwrap();
    fixture.fsck();
    changed
}

#[test]
fn stock_git_shows_notes_and_notes_of_stock_git_are_read() {
    let fixture = Fixture::new();
    let ids = fixture.chain(3);
    fixture.set(branch("main"), ids[2]);
    assert!(fixture.history.notes().unwrap().is_empty());
    assert!(put(&fixture, &ids[1], Some("a slow step\n")));
    assert!(!put(&fixture, &ids[1], Some("a slow step\n")), "the same again is no change");
    assert_eq!(fixture.git(&["notes", "show", &ids[1].to_string()]), "a slow step");
    assert!(fixture.git(&["log", "main"]).contains("Notes:\n    a slow step"));
    fixture.git(&["notes", "add", "-m", "by git", &ids[0].to_string()]);
    fixture.git(&["notes", "append", "-m", "and git", &ids[1].to_string()]);
    let notes = fixture.history.notes().unwrap();
    assert_eq!(notes.get(&ids[0]).unwrap().as_deref(), Some(&b"by git\n"[..]));
    assert_eq!(notes.get(&ids[2]).unwrap(), None);
    let mut listed = vec![(ids[0], b"by git\n".to_vec()), (ids[1], b"a slow step\n\nand git\n".to_vec())];
    listed.sort();
    assert_eq!(notes.list().unwrap(), listed);
    assert!(put(&fixture, &ids[1], None));
    assert!(put(&fixture, &ids[0], None));
    assert_eq!(fixture.history.notes().unwrap().list().unwrap(), []);
    assert_eq!(fixture.history.reflog(&RefName::Notes).unwrap().len(), 5);
    assert_eq!(fixture.git(&["rev-list", "--count", "refs/notes/commits"]), "5");
}

#[test]
fn notes_that_git_has_spread_over_directories_are_changed_where_they_lie() {
    let fixture = Fixture::new();
    let ids = fixture.chain(300);
    fixture.set(branch("main"), ids[299]);
    // Stock git makes directories once a tree has a few hundred notes.
    let mut script = String::from("commit refs/notes/commits\ncommitter a <a@b> 1 +0000\ndata 0\n\n");
    for id in &ids[..299] {
        script.push_str(&format!("N inline {id}\ndata 5\nnote\n\n"));
    }
    let mut git = git_command(fixture.history.directory());
    let mut git = git.args(["fast-import", "--quiet"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut git.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(git.wait().unwrap().success());
    let spread = fixture.git(&["ls-tree", "refs/notes/commits"]);
    assert!(spread.contains("040000 tree"), "{spread}");
    let history = fixture.again();
    assert_eq!(history.notes().unwrap().list().unwrap().len(), 299);
    assert_eq!(history.notes().unwrap().get(&ids[7]).unwrap().as_deref(), Some(&b"note\n"[..]));
    for (on, text) in [(ids[7], Some("changed\n")), (ids[8], None), (ids[299], Some("new\n"))] {
        put(&fixture, &on, text);
        let shown = git_command(fixture.history.directory())
            .args(["notes", "show", &on.to_string()])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), text.unwrap_or_default());
    }
    assert_eq!(fixture.git(&["notes", "list"]).lines().count(), 299);
}

#[test]
fn notes_that_are_written_at_once_are_all_there() {
    let fixture = Fixture::new();
    let ids = fixture.chain(8);
    std::thread::scope(|scope| {
        for id in &ids {
            let history = &fixture.history;
            scope.spawn(move || {
                for word in ["a", "b"] {
                    let mut change = |old: Option<Vec<u8>>| -> Result<Option<Vec<u8>>, EditError> {
                        Ok(Some([old.unwrap_or_default().as_slice(), word.as_bytes()].concat()))
                    };
                    history.edit_note(id, "note", &who(1), &mut change).unwrap();
                }
            });
        }
    });
    let notes = fixture.history.notes().unwrap();
    assert!(ids.iter().all(|id| notes.get(id).unwrap().as_deref() == Some(b"ab")));
    fixture.fsck();
}

#[test]
fn a_note_that_is_too_long_is_refused() {
    let fixture = Fixture::new();
    let ids = fixture.chain(1);
    let long = vec![b'x'; MAX_NOTE_BYTES + 1];
    let refused =
        fixture.history.edit_note::<EditError>(&ids[0], "note", &who(1), &mut |_| Ok(Some(long.clone())));
    assert!(matches!(refused, Err(EditError::History(HistoryError::NoteTooLong { .. }))), "{refused:?}");
    assert!(fixture.history.notes().unwrap().is_empty());
}
