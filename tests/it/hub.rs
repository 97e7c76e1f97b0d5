//! Downloads and caches with a local server that speaks the Hub's protocol and injects faults, and
//! with a fake `python3 -m pip`. No test uses the network.

mod bench;
mod datasets;
mod server;
#[cfg(unix)]
mod wheels;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use candor::Location;
use candor::hub::{self, HubOptions};

use self::bench::{Bench, RecordedProgress, TOKEN, check_error, manifest, names};
use self::server::{COMMIT, Fault, GGUF, NEXT_COMMIT, Server, noise, sha256};

#[test]
fn a_file_lands_in_the_hubs_layout_and_is_not_fetched_twice() {
    let (bench, content) = Bench::gguf();
    let (model, heard) = bench.check_content(&content);
    assert_eq!((heard.done, heard.total, heard.notices.len()), (300_000, Some(300_000), 0));
    assert_eq!(model.name, format!("user/repo:{GGUF}"));
    assert_eq!((model.revision.as_deref(), model.location), (Some(COMMIT), Location::HubCache));
    assert_eq!(model.sha256, Some(sha256(&content)));
    assert_eq!(model.path, bench.repository().join("snapshots").join(COMMIT).join(GGUF));
    assert_eq!(fs::read_to_string(bench.repository().join("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(&model.path).unwrap(),
        Path::new(&format!("../../blobs/{}", sha256(&content)))
    );

    // By quantization, file or commit: from the cache, without a request.
    let requests = bench.server.log().len();
    for reference in
        ["user/repo:q4_1", &format!("user/repo:{GGUF}"), &format!("user/repo@{COMMIT}:Q4_1")]
    {
        assert_eq!(bench.resolve(reference).0.unwrap().path, model.path, "{reference}");
    }
    assert_eq!(bench.server.log().len(), requests);
    // A refresh asks the Hub but downloads nothing.
    hub::resolve("user/repo:Q4_1", &bench.refreshed(), &mut ()).unwrap();
    assert!(bench.server.log().len() > requests);
    assert_eq!(bench.server.transfers().len(), 1);
}

#[test]
fn the_token_goes_to_the_endpoint_alone() {
    let (bench, content) = Bench::gguf();
    bench.check_content(&content);
    for request in bench.server.log() {
        assert_eq!(
            request.headers.contains_key("authorization"),
            !request.cdn,
            "{} {}",
            request.method,
            request.path
        );
    }
    assert!(!format!("{:?}", bench.options).contains(TOKEN));
}

#[test]
fn a_cut_connection_is_resumed_where_it_stopped() {
    for fault in [Fault::CutAfter(150_000), Fault::CutUnannounced(150_000)] {
        let (bench, content) = Bench::gguf();
        bench.server.faults(&[fault]);
        bench.check_content(&content);
        let transfers = bench.server.transfers();
        assert_eq!(transfers.len(), 2);
        assert_eq!(transfers[1].headers["range"], "bytes=150000-");
        assert_eq!(transfers[1].headers["if-range"], "\"cdn-300000\"");
    }
}

#[test]
fn a_download_that_failed_is_resumed_by_the_next_run() {
    let (bench, content) = Bench::gguf();
    bench.server.faults(&[
        Fault::CutAfter(150_000),
        Fault::CutAfter(0),
        Fault::CutAfter(0),
        Fault::CutAfter(0),
    ]);
    bench.check_error(5, "stopped at 150000 of 300000 bytes (the connection was closed early); the same command resumes it");
    assert_eq!(bench.blobs(), [format!("{}.incomplete", sha256(&content))]);
    bench.check_content(&content);
    assert_eq!(bench.server.transfers().last().unwrap().headers["range"], "bytes=150000-");
}

#[test]
fn a_partial_file_that_does_not_fit_is_started_over() {
    let check = |partial: &[u8], faults: &[Fault], notices: usize| {
        let (bench, content) = Bench::gguf();
        fs::create_dir_all(bench.repository().join("blobs")).unwrap();
        fs::write(
            bench.repository().join("blobs").join(format!("{}.incomplete", sha256(&content))),
            partial,
        )
        .unwrap();
        bench.server.faults(faults);
        let (_, heard) = bench.check_content(&content);
        assert_eq!(heard.notices.len(), notices, "{:?}", heard.notices);
    };
    let content = noise(300_000, 1);
    check(&content[..1000], &[Fault::Status(416)], 0);
    check(&content[..1000], &[Fault::WrongRange], 0);
    check(&content[..1000], &[Fault::IgnoreRange], 0);
    check(&noise(1000, 2), &[], 1);
    check(&noise(300_000, 2), &[], 1);
    check(&noise(300_001, 2), &[], 0);
    check(&content, &[], 0);
}

#[test]
fn damaged_bytes_are_fetched_once_more_and_then_refused() {
    let (bench, content) = Bench::gguf();
    bench.server.faults(&[Fault::Flip(123_456)]);
    let (_, heard) = bench.check_content(&content);
    assert!(heard.notices[0].contains("arrived damaged (expected sha256 "), "{:?}", heard.notices);

    let (bench, _) = Bench::gguf();
    bench.server.faults(&[Fault::CutAfter(1000), Fault::Flip(0), Fault::Flip(299_999)]);
    bench.check_error(4, "tiny-Q4_1.gguf: arrived damaged twice from user/repo: expected sha256 ");
    assert!(bench.blobs().is_empty());
}

#[test]
fn a_file_of_another_length_is_refused() {
    let check = |faults: &[Fault], expected: &str| {
        let (bench, _) = Bench::gguf();
        bench.server.faults(faults);
        bench.check_error(5, expected);
    };
    check(
        &[Fault::Length(1000)],
        "the server offers 1000 bytes for tiny-Q4_1.gguf of user/repo, which has 300000",
    );
    check(&[Fault::Length(300_001)], "the server offers 300001 bytes");
    check(&[Fault::Longer(5)], "sends more than the 300000 bytes");
    check(&[Fault::CutUnannounced(0); 3], "stopped at 0 of 300000 bytes");
    check(
        &[Fault::CutAfter(1000), Fault::Status(416), Fault::Status(416), Fault::Status(416)],
        "the Hub at http://127.0.0.1:",
    );
    check(
        &[Fault::CutAfter(10), Fault::WrongRange, Fault::CutAfter(0), Fault::CutAfter(0)],
        "stopped at 0 of 300000 bytes",
    );
    check(&[Fault::Status(403)], "answers 403 for user/repo");
    check(&[Fault::Status(404)], "has no tiny-Q4_1.gguf at commit");
    check(&[Fault::Status(500); 9], "answers 500 for user/repo; try again later");
}

#[test]
fn a_server_that_falls_silent_is_left() {
    // One byte, silence, and after that nothing at all.
    let (mut bench, _) = Bench::gguf();
    bench.options.stall_timeout = Duration::from_millis(100);
    bench.server.faults(&[
        Fault::Stall,
        Fault::CutAfter(0),
        Fault::CutAfter(0),
        Fault::CutAfter(0),
    ]);
    let start = Instant::now();
    bench.check_error(5, "stopped at 1 of 300000 bytes");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn refusals_say_what_to_do() {
    let check = |status: u16, code: &'static str, token: bool, expected: &str| {
        let (mut bench, _) = Bench::gguf();
        if !token {
            bench.options.token = None;
        }
        bench.server.change(|site| site.refuse = Some((status, code)));
        bench.check_error(5, expected);
    };
    check(401, "", false, "it is private; check the name or set HF_TOKEN");
    check(401, "RepoNotFound", true, "HF_TOKEN has no access; check both");
    check(403, "GatedRepo", true, "user/repo is gated; accept its terms at http://");
    check(404, "RepoNotFound", true, "there is no repository user/repo at http://");
    check(404, "RevisionNotFound", true, "has no revision main; check the name and the revision");
    check(429, "", true, "too many requests");
    check(500, "", true, "answers 500 for user/repo; try again later");
    check(418, "", true, "answers 418");
}

#[test]
fn hostile_metadata_never_becomes_a_path() {
    let check = |name: &'static str, value: &str, expected: &str| {
        let (bench, _) = Bench::gguf();
        bench.server.change(|site| {
            site.headers.insert(name, value.to_owned());
        });
        bench.check_error(5, expected);
        assert_eq!(
            names(bench.folder.path())
                .iter()
                .filter(|name| *name != "hub" && *name != "home")
                .count(),
            0
        );
    };
    check("X-Linked-ETag", "\"../../x\"", "with etag \"\\\"../../x\\\"\", which is not a digest");
    check("X-Linked-ETag", &format!("\"{}\"", "/".repeat(64)), "which is not a digest");
    // Without the Hub's own etag the other server's is read, which is invalid too.
    check("X-Linked-ETag", "", "with etag \"\\\"cdn-300000\\\"\", which is not a digest");
    check("X-Repo-Commit", "../../../x", "with x-repo-commit \"../../../x\"");
    check("X-Repo-Commit", "", "which is not a digest");
    check("X-Linked-Size", "-1", "gives no size");
    // A missing size is read from the server that has the bytes.
    let (bench, content) = Bench::gguf();
    bench.server.change(|site| {
        site.headers.insert("X-Linked-Size", String::new());
    });
    bench.check_content(&content);
}

#[test]
fn hostile_listings_are_refused() {
    let check = |listing: String, exit_code: u8, expected: &str| {
        let (bench, _) = Bench::gguf();
        bench.server.change(|site| site.listing = Some(listing));
        bench.check_error(exit_code, expected);
    };
    check("<html>".into(), 5, "it is not a JSON object with sha and siblings");
    check(format!("{{\"sha\": \"{COMMIT}\"}}"), 5, "not a JSON object with sha and siblings");
    check("{\"sha\": \"../..\", \"siblings\": []}".into(), 5, "its commit is \"../..\"");
    check(
        format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"../x.gguf\"}}]}}"),
        2,
        "has no GGUF file",
    );
    check(
        format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"/etc/x.gguf\"}}]}}"),
        2,
        "has no GGUF file",
    );
    check(" ".repeat(17 << 20), 5, "longer than");
}

#[test]
fn redirects_that_lead_nowhere_are_refused() {
    let check = |location: &dyn Fn(&Server) -> String, expected: &str| {
        let (bench, _) = Bench::gguf();
        let location = location(&bench.server);
        bench.server.change(|site| site.location = Some(location));
        bench.check_error(5, expected);
    };
    check(
        &|server| format!("{}/user/repo/resolve/{COMMIT}/{GGUF}", server.endpoint),
        "more than 5 times",
    );
    check(&|_| "file:///etc/passwd".to_owned(), "to an address that cannot be used");
    check(&|_| "http://127.0.0.1:1/x".to_owned(), "http://127.0.0.1:1 cannot be reached");
}

#[test]
fn an_address_where_nobody_listens_fails_at_once() {
    let (mut bench, _) = Bench::gguf();
    bench.options.endpoint = "http://127.0.0.1:1".into();
    let start = Instant::now();
    bench.check_error(5, "http://127.0.0.1:1 cannot be reached for the file list of user/repo (");
    assert!(start.elapsed() < Duration::from_secs(2));
    bench.options.endpoint = "huggingface.co".into();
    bench.check_error(2, "HF_ENDPOINT is \"huggingface.co\"; it must be an address");
}

#[test]
fn what_has_no_room_is_refused_before_a_byte_moves() {
    let (mut bench, _) = Bench::gguf();
    bench.server.change(|site| {
        site.headers.insert("X-Linked-Size", (1_u64 << 60).to_string());
    });
    if cfg!(unix) {
        bench.check_error(6, "1152921.5 TB are needed and ");
        assert!(bench.server.transfers().is_empty());
    }
    let file = bench.folder.path().join("file");
    fs::write(&file, "").unwrap();
    bench.options.hub_cache = Some(file.join("hub"));
    let error = bench.resolve("user/repo").0.unwrap_err();
    check_error(&error, 1, "cannot write 1152921.5 TB here");
    check_error(&error, 1, "set CANDOR_HOME and HF_HUB_CACHE to a folder that can be written");
    bench.options.hub_cache = None;
    check_error(
        &bench.resolve("user/repo").0.unwrap_err(),
        2,
        "none of HF_HUB_CACHE, CANDOR_HOME and HOME is set; set CANDOR_HOME",
    );
}

#[test]
fn two_that_want_the_same_file_share_one_download() {
    let (bench, content) = Bench::gguf();
    bench.server.faults(&[Fault::Slow]);
    let heard: Vec<_> = thread::scope(|scope| {
        let pulls: Vec<_> =
            (0..3).map(|_| scope.spawn(|| bench.check_content(&content).1)).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert_eq!(bench.server.transfers().len(), 1);
    let waited = heard
        .iter()
        .flat_map(|heard| &heard.notices)
        .filter(|line| line.contains("another process is fetching"))
        .count();
    assert_eq!(waited, 2);
}

#[test]
fn a_branch_moves_only_when_asked() {
    let (bench, content) = Bench::gguf();
    let (first, _) = bench.check_content(&content);
    let newer = noise(1000, 7);
    bench.server.change(|site| {
        site.commits.insert(
            NEXT_COMMIT.into(),
            BTreeMap::from([
                (GGUF.to_owned(), newer.clone()),
                ("x-Q8_0.gguf".to_owned(), content.clone()),
            ]),
        );
        site.head = NEXT_COMMIT.into();
    });
    assert_eq!(bench.resolve("user/repo:Q4_1").0.unwrap().path, first.path);
    let second = hub::resolve("user/repo:Q4_1", &bench.refreshed(), &mut ()).unwrap();
    assert_eq!(second.revision.as_deref(), Some(NEXT_COMMIT));
    assert!(fs::read(&second.path).unwrap() == newer);
    assert_eq!(bench.resolve(&format!("user/repo:Q4_1@{COMMIT}")).0.unwrap().path, first.path);
    // The same content under another name and commit is not fetched again, and is kept as long as
    // one of them exists.
    let transfers = bench.server.transfers().len();
    let same = bench.resolve("user/repo:Q8_0").0.unwrap();
    assert_eq!(bench.server.transfers().len(), transfers);
    assert_eq!(hub::list(&bench.options).len(), 3);
    let old = hub::find(&format!("user/repo:Q4_1@{COMMIT}"), &bench.options).unwrap();
    assert_eq!(hub::remove(&old, &bench.options).unwrap(), 0);
    assert!(fs::read(&same.path).unwrap() == content);
    // A slash in a revision.
    assert_eq!(
        bench.resolve("user/repo:Q4_1@refs/pr/1").0.unwrap().revision.as_deref(),
        Some(NEXT_COMMIT)
    );
    assert_eq!(fs::read_to_string(bench.repository().join("refs/refs/pr/1")).unwrap(), NEXT_COMMIT);
    // A refresh that cannot reach the Hub fails.
    let lost = HubOptions { endpoint: "http://127.0.0.1:1".into(), ..bench.refreshed() };
    check_error(
        &hub::resolve("user/repo:Q4_1", &lost, &mut ()).unwrap_err(),
        5,
        "cannot be reached",
    );
    for reference in ["user/repo:Q4_1", "user/repo:Q8_0"] {
        assert!(
            hub::remove(&hub::find(reference, &bench.options).unwrap(), &bench.options).unwrap()
                > 0
        );
    }
    assert!(!bench.repository().exists());
}

#[test]
fn a_quantization_that_is_not_there_is_answered_with_those_that_are() {
    let bench = Bench::new(&[
        ("m-Q4_K_M.gguf", noise(10, 1)),
        ("m-Q8_0.gguf", noise(20, 2)),
        ("README.md", b"x".to_vec()),
    ]);
    let error = bench.resolve("user/repo:Q5_K_M").0.unwrap_err();
    check_error(
        &error,
        2,
        "user/repo has no GGUF file with quantization Q5_K_M; it has m-Q4_K_M.gguf, m-Q8_0.gguf",
    );
    assert!(bench.resolve("user/repo:q8_0").0.unwrap().path.ends_with("m-Q8_0.gguf"));
    // The default is the preferred file even if another is cached, unless the Hub cannot be
    // reached.
    let lost = HubOptions { endpoint: "http://127.0.0.1:1".into(), ..bench.options.clone() };
    let mut heard = RecordedProgress::default();
    assert!(hub::resolve("user/repo", &lost, &mut heard).unwrap().path.ends_with("m-Q8_0.gguf"));
    assert!(
        heard.notices[0].contains("cannot be reached")
            && heard.notices[0].ends_with("using what is cached"),
        "{:?}",
        heard.notices
    );
    assert!(bench.resolve("user/repo").0.unwrap().path.ends_with("m-Q4_K_M.gguf"));
}

#[test]
fn a_set_of_safetensors_is_fetched_into_one_folder() {
    let index = br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let files = [
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", noise(5000, 3)),
        ("tokenizer_config.json", b"{\"x\": 1}".to_vec()),
        ("model.safetensors.index.json", index.to_vec()),
        ("model-00001-of-00002.safetensors", noise(9000, 4)),
        ("model-00002-of-00002.safetensors", noise(9001, 5)),
        ("README.md", b"not wanted".to_vec()),
        ("pytorch_model.bin", b"not wanted".to_vec()),
    ];
    let bench = Bench::new(&files);
    // The first small file arrives damaged once, which git's digest detects.
    bench.server.faults(&[Fault::Flip(0)]);
    let (model, heard) = bench.resolve("user/repo");
    let model = model.unwrap();
    assert!(
        heard.notices[0].contains("tokenizer_config.json arrived damaged (expected git digest "),
        "{:?}",
        heard.notices
    );
    assert_eq!(model.path, bench.repository().join("snapshots").join(COMMIT));
    assert_eq!((model.name.as_str(), model.sha256), ("user/repo", None));
    let mut wanted: Vec<_> = files[..6].iter().map(|(name, _)| (*name).to_owned()).collect();
    wanted.sort();
    assert_eq!(names(&model.path), wanted);
    for (name, content) in &files[..6] {
        assert!(fs::read(model.path.join(name)).unwrap() == *content, "{name}");
    }
    let requests = bench.server.log().len();
    bench.resolve("user/repo").0.unwrap();
    assert_eq!(bench.server.log().len(), requests);
    let cached = hub::find("user/repo", &bench.options).unwrap();
    let verified = hub::verify(&cached, &bench.options, &mut ()).unwrap();
    assert!(verified.len() == 6 && verified.iter().all(|file| file.compared));
    assert_eq!(
        cached.size,
        files[..6].iter().map(|(_, content)| content.len() as u64).sum::<u64>()
    );
    // Without one shard the model is not cached.
    fs::remove_file(model.path.join("model-00002-of-00002.safetensors")).unwrap();
    assert!(hub::find("user/repo", &bench.options).is_err_and(|error| error.is_network()));
}

#[test]
fn a_file_that_another_tool_cached_is_found_and_checked() {
    let (mut bench, content) = Bench::gguf();
    bench.options.offline = true;
    let snapshot = bench.repository().join("snapshots").join(COMMIT);
    let blob = bench.repository().join("blobs").join(sha256(&content));
    for folder in [&snapshot, blob.parent().unwrap(), &bench.repository().join("refs")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(bench.repository().join("refs/main"), COMMIT).unwrap();
    fs::write(&blob, &content).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(format!("../../blobs/{}", sha256(&content)), snapshot.join(GGUF))
        .unwrap();
    #[cfg(unix)]
    {
        let model = bench.resolve("user/repo").0.unwrap();
        assert_eq!(model.sha256, Some(sha256(&content)));
        // A flipped byte: found when used and by `verify`, repaired by a pull.
        let mut damaged = content.clone();
        damaged[5] ^= 1;
        fs::write(&blob, &damaged).unwrap();
        check_error(
            &bench.resolve("user/repo").0.unwrap_err(),
            4,
            "run `candor pull user/repo:tiny-Q4_1.gguf`",
        );
        let cached = hub::find("user/repo", &bench.options).unwrap();
        check_error(
            &hub::verify(&cached, &bench.options, &mut ()).unwrap_err(),
            4,
            "it should have sha256 ",
        );
        bench.options.offline = false;
        let repaired = hub::resolve("user/repo:Q4_1", &bench.refreshed(), &mut ()).unwrap();
        assert!(fs::read(repaired.path).unwrap() == content);
        hub::verify(&cached, &bench.options, &mut ()).unwrap();
    }
    assert!(bench.server.log().iter().filter(|request| request.cdn).count() <= 1);
}

#[test]
fn offline_mode_names_what_is_cached() {
    let (mut bench, content) = Bench::gguf();
    bench.options.offline = true;
    check_error(
        &bench.resolve("user/repo:Q4_1").0.unwrap_err(),
        5,
        "user/repo:Q4_1 is not cached (nothing is) and offline mode forbids",
    );
    bench.options.offline = false;
    bench.check_content(&content);
    bench.options.offline = true;
    let requests = bench.server.log().len();
    bench.check_content(&content);
    let error = bench.resolve("smollm2").0.unwrap_err();
    check_error(
        &error,
        5,
        "smollm2-135m-instruct is not cached (cached: user/repo:tiny-Q4_1.gguf)",
    );
    check_error(&error, 5, "run `candor pull smollm2-135m-instruct` when online");
    assert_eq!(bench.server.log().len(), requests);
}

#[test]
fn a_known_model_comes_from_the_hub_first() {
    let (mut bench, content) = Bench::gguf();
    bench.options.manifests = vec![manifest(&content, true, &["nowhere"])];
    let (model, heard) = bench.resolve("tiny");
    let model = model.unwrap();
    assert_eq!(
        (model.location, model.revision.as_deref(), heard.notices.len()),
        (Location::HubCache, Some(COMMIT), 0)
    );
    assert_eq!(model.manifest.unwrap().name, "tiny");
    let requests = bench.server.log().len();
    assert_eq!(bench.resolve("TINY").0.unwrap().path, model.path);
    assert_eq!(bench.server.log().len(), requests);
    assert_eq!(
        hub::list(&bench.options).iter().map(|model| model.name.as_str()).collect::<Vec<_>>(),
        ["tiny"]
    );
}

#[test]
fn a_local_file_is_its_own_model() {
    let (bench, _) = Bench::gguf();
    let path = bench.folder.path().join("x.gguf");
    fs::write(&path, b"hello\n").unwrap();
    let text = path.to_str().unwrap();
    let model = bench.resolve(text).0.unwrap();
    assert_eq!(
        (model.path.as_path(), model.location, model.sha256),
        (path.as_path(), Location::Local, None)
    );
    let cached = hub::find(text, &bench.options).unwrap();
    let verified = hub::verify(&cached, &bench.options, &mut ()).unwrap();
    assert_eq!(verified[0].digest, sha256(b"hello\n"));
    assert!(!verified[0].compared);
    check_error(
        &hub::remove(&cached, &bench.options).unwrap_err(),
        2,
        "is not in a cache; delete the file yourself",
    );
    check_error(&bench.resolve("./nowhere.gguf").0.unwrap_err(), 2, "is a path without a file");
    assert!(bench.server.log().is_empty());
}
