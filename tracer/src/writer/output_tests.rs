use super::*;
use prof::RecordWriter;

#[test]
fn a_file_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.prof");
    let path = path.to_str().unwrap();
    std::fs::write(path, "an older file, longer than a header, which is replaced").unwrap();
    let mut first = Output::create(path, [1; 16]).unwrap();
    first.flush().unwrap();
    let mut second = Output::create(path, [2; 16]).unwrap();
    second.flush().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), Header::new([1; 16]).to_bytes());
    let own = format!("{}/run.{}.prof", folder.path().display(), std::process::id());
    assert_eq!(second.path(), own);
    assert_eq!(std::fs::read(own).unwrap(), Header::new([2; 16]).to_bytes());
    drop(first);
    assert_eq!(Output::create(path, [3; 16]).unwrap().path(), path);
}

#[test]
fn a_descriptor_that_was_closed_and_taken_is_left_to_its_new_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.prof");
    let other = File::create(folder.path().join("other")).unwrap();
    let mut output = Output::create(path.to_str().unwrap(), [1; 16]).unwrap();
    output.flush().unwrap();
    let number = output.file.as_ref().unwrap().as_raw_fd();
    // SAFETY: another file takes the number; the output finds out.
    assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
    output.block(BlockKind::Records, Nanos(0), &[]);
    output.flush().unwrap();
    assert_eq!(std::fs::read(&path).unwrap().len() as u64, output.written);
    drop(output);
    assert_eq!(other.metadata().unwrap().len(), 0);
    // SAFETY: the number is open, as what it was made.
    let taken = unsafe { File::from_raw_fd(number) };
    assert_eq!(identity_of(&taken).unwrap(), identity_of(&other).unwrap());
}

#[test]
fn the_process_id_goes_before_the_extension() {
    let id = std::process::id();
    assert_eq!(with("a.b/run", id), format!("a.b/run.{id}"));
    assert_eq!(with("run.1.prof", id), format!("run.1.{id}.prof"));
}

#[test]
fn the_file_of_an_earlier_program_of_the_process_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.prof");
    let path = path.to_str().unwrap();
    let write = |pid: u32, text: &str| {
        let mut output = Output::create(path, [1; 16]).unwrap();
        let mut records = RecordWriter::new(Nanos(0));
        let ticks = start_ticks().unwrap().to_string();
        for (key, value) in [("pid", pid.to_string().as_str()), ("process_start_ticks", &ticks), ("is", text)]
        {
            records.push(&Record::Fact { key, value });
        }
        output.block(BlockKind::Records, Nanos(0), records.payload());
        output.flush().unwrap();
    };
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    write(1, "another's");
    write(std::process::id(), "first");
    assert_eq!(names(), ["run.prof"]);
    write(std::process::id(), "second");
    write(std::process::id(), "third");
    assert_eq!(names(), ["run.1.prof", "run.2.prof", "run.prof"]);
    let first = std::fs::read(folder.path().join("run.1.prof")).unwrap();
    assert!(first.windows(5).any(|bytes| bytes == b"first"));
}

/// Files of a folder and their sizes.
fn sizes(folder: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut sizes: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    sizes.sort();
    sizes
}

#[test]
fn the_next_file_takes_the_name_once_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let name = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // Of a program that the process executed before this one.
    std::fs::write(name("run.1.prof"), "earlier").unwrap();
    let mut output = Output::create(&name("run.prof"), [1; 16]).unwrap();
    output.flush().unwrap();
    let header = output.size();
    for records in 1..=3u64 {
        let mut next = output.next().unwrap();
        assert_eq!(std::fs::metadata(name("run.prof")).unwrap().len(), output.size());
        (0..records).for_each(|_| next.block(BlockKind::Records, Nanos(0), &[]));
        next.flush_beginning().unwrap();
        let (earlier, before) = (output.earlier(), output.size());
        next.replace(output).unwrap();
        output = next;
        assert_eq!((earlier, output.path()), (name("run.2.prof"), name("run.prof").as_str()));
        let expected = [("run.1.prof", 7), ("run.2.prof", before), ("run.prof", output.size())];
        assert_eq!(sizes(folder.path()), expected.map(|(name, size)| (name.to_owned(), size)));
        assert_eq!(prof::Reader::new(File::open(name("run.prof")).unwrap()).unwrap().header().run, [1; 16]);
    }
    // What follows goes to the last file, and another process leaves it alone.
    output.block(BlockKind::Records, Nanos(0), &[]);
    output.flush().unwrap();
    assert!(std::fs::metadata(name("run.prof")).unwrap().len() > header);
    assert_ne!(Output::create(&name("run.prof"), [2; 16]).unwrap().path(), name("run.prof"));
}

#[test]
fn a_file_that_was_moved_away_stays_there_and_one_in_its_place_stays_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.prof");
    let moved = folder.path().join("moved.prof");
    let mut output = Output::create(path.to_str().unwrap(), [1; 16]).unwrap();
    output.flush().unwrap();
    std::fs::rename(&path, &moved).unwrap();
    let mut next = output.next().unwrap();
    next.flush_beginning().unwrap();
    next.replace(output).unwrap();
    let names = || sizes(folder.path()).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(), ["moved.prof", "run.prof"]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another's").unwrap();
    let mut last = next.next().unwrap();
    last.flush_beginning().unwrap();
    assert_eq!(last.replace(next).unwrap_err().to_string(), "another file has taken its name");
    assert_eq!(std::fs::read(&path).unwrap(), b"another's");
}

#[test]
fn a_pipe_without_a_reader_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let refused =
        Output::create(path.to_str().unwrap(), [1; 16]).err().and_then(|error| error.raw_os_error());
    assert_eq!(refused, Some(libc::ENXIO));
}
