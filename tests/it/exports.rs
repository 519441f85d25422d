//! `docket export` to a file: whole or not there, and what is said where it broke off.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::harness::{Docket, docket};

/// The same long answer to everyone who asks, by chunks; then the connection ends as `last` has it.
struct Answer {
    status: &'static str,
    body: String,
    last: Last,
}

enum Last {
    /// The answer is whole.
    Ends,
    /// It breaks off.
    BreaksOff,
    /// Nothing comes any more, until whoever asked goes.
    Waits,
}

impl Answer {
    /// Answers one question, and where to ask it.
    fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || self.give(&listener.accept().unwrap().0));
        url
    }

    fn give(&self, mut stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        let mut text = format!("HTTP/1.1 {}\r\ntransfer-encoding: chunked\r\n\r\n", self.status);
        // In pieces that have nothing to do with where entries end.
        for piece in self.body.as_bytes().chunks(7) {
            write!(text, "{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap()).unwrap();
        }
        if matches!(self.last, Last::Ends) {
            text.push_str("0\r\n\r\n");
        }
        stream.write_all(text.as_bytes()).unwrap();
        if matches!(self.last, Last::Waits) {
            // Ends when the other side does.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    }
}

fn export(url: &str, arguments: &[&str], folder: &Path) -> (i32, String) {
    let (code, _, error) = docket(&[&["export", "--url", url, "--token", "t"], arguments].concat(), folder);
    (code, error)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_fails_before_it_begins_makes_no_file_and_spoils_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let refused = || {
        let body = json!({"detail": "the token is not known"}).to_string();
        Answer { status: "401 Unauthorized", body, last: Last::Ends }.serve()
    };
    let closed = || format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let fails = |said: &str, (code, error): (i32, String)| {
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(said) && !error.contains("--force"), "{error}");
    };
    fails("the token is not known", export(&refused(), &["--out", "a.jsonl"], path));
    fails("is `docket serve` running?", export(&closed(), &["--out", "a.jsonl"], path));
    fails("does not exist", export("", &["--out", "a.jsonl", "--ledger", "none.db"], path));
    let empty = || Answer { status: "200 OK", body: String::new(), last: Last::Ends }.serve();
    fails("No such file or directory", export(&empty(), &["--out", "nowhere/a.jsonl"], path));
    assert!(names(path).is_empty(), "{:?}", names(path));

    std::fs::write(path.join("a.jsonl"), "before\n").unwrap();
    fails("the token is not known", export(&refused(), &["--out", "a.jsonl", "--force"], path));
    fails("does not exist", export("", &["--out", "a.jsonl", "--force", "--ledger", "none.db"], path));
    // Nobody is asked for what could not be kept.
    let (code, error) = export(&closed(), &["--out", "a.jsonl"], path);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("`a.jsonl` is there already; --force writes over it"), "{error}");
    assert_eq!(std::fs::read_to_string(path.join("a.jsonl")).unwrap(), "before\n");
    assert_eq!(names(path), ["a.jsonl"]);
}

#[test]
fn an_export_that_broke_off_keeps_what_is_whole_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let lines = "{\"seq\":9,\"id\":\"A\"}\n{\"seq\":8,\"id\":\"B\"}\n";
    let rows = "id,seq,x\r\nA,9,\"one\ntwo\"\r\nB,8,\"three\"\r\n";
    for (format, whole, torn) in [("jsonl", lines, "{\"seq\":7,"), ("csv", rows, "C,7,\"four\n")] {
        let out = format!("x.{format}");
        let broken = Answer { status: "200 OK", body: format!("{whole}{torn}"), last: Last::BreaksOff };
        let options = ["--format", format, "--out", &out, "--limit", "5"];
        let (code, error) = export(&broken.serve(), &options, path);
        assert_eq!(code, 2, "{error}");
        let part = format!("`x.{format}.part` has 2 entries whole; go on with `--cursor 8 --limit 3`");
        assert!(error.contains("the export broke off: ") && error.contains(&part), "{error}");
        assert_eq!(error.contains("without its header line"), format == "csv", "{error}");
        assert_eq!(std::fs::read_to_string(path.join(format!("{out}.part"))).unwrap(), whole);
        assert!(!path.join(&out).exists());
        // What there is of it is not written over unasked either.
        let (code, error) = export("http://127.0.0.1:9", &options, path);
        assert!(code == 2 && error.contains(&format!("`{out}.part` is there already")), "{error}");
        let answer = Answer { status: "200 OK", body: whole.to_owned(), last: Last::Ends };
        let (code, error) = export(&answer.serve(), &[&options[..], &["--force"]].concat(), path);
        let sha256 = hex::encode(Sha256::digest(whole));
        let wrote = format!("wrote 2 entries, {} bytes, sha256 {sha256} to `{out}`\n", whole.len());
        assert!(code == 0 && error.contains(&wrote), "{error}");
        assert_eq!(std::fs::read_to_string(path.join(&out)).unwrap(), whole);
    }
    // What takes a file's place is as private as that was, and a link still leads to it.
    let only_owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path.join("x.csv"), only_owner).unwrap();
    std::os::unix::fs::symlink("x.csv", path.join("link.csv")).unwrap();
    let answer = Answer { status: "200 OK", body: rows.to_owned(), last: Last::Ends };
    let (code, error) =
        export(&answer.serve(), &["--format", "csv", "--out", "link.csv", "--force", "-n", "2"], path);
    assert_eq!(code, 0, "{error}");
    assert!(path.join("link.csv").is_symlink());
    assert_eq!(path.join("x.csv").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let broken = Answer { status: "200 OK", body: "[{\"seq\":9},".into(), last: Last::BreaksOff };
    let (code, error) = export(&broken.serve(), &["--format", "json", "--out", "x.json"], path);
    assert!(
        code == 2 && error.contains("`x.json.part` is not whole, and nothing can go on from it"),
        "{error}"
    );
    let broken = Answer { status: "200 OK", body: "{\"seq\":9".into(), last: Last::BreaksOff };
    let (code, error) = export(&broken.serve(), &["--out", "y.jsonl"], path);
    assert!(code == 2 && error.contains("`y.jsonl.part` has no whole entry; begin anew"), "{error}");
    assert_eq!(names(path), ["link.csv", "x.csv", "x.json.part", "x.jsonl", "y.jsonl.part"]);
    // On standard output as well.
    let broken = Answer { status: "200 OK", body: format!("{lines}{{"), last: Last::BreaksOff };
    let (code, error) = export(&broken.serve(), &[], path);
    assert!(
        code == 2
            && error.contains(&format!(
                "standard output has 2 entries whole in its first {} bytes: cut off what follows; go on with `--cursor 8`",
                lines.len()
            )),
        "{error}"
    );
    let broken = Answer { status: "200 OK", body: lines.to_owned(), last: Last::BreaksOff };
    let (code, error) = export(&broken.serve(), &["--since", "24h"], path);
    assert!(code == 2 && error.contains("go on with `--cursor 8 --since 20"), "{error}");
    let broken = Answer { status: "200 OK", body: lines.to_owned(), last: Last::BreaksOff };
    let (code, error) = export(&broken.serve(), &["--limit", "2"], path);
    assert!(code == 2 && error.contains("has all 2 entries that were asked for, whole"), "{error}");
}

#[test]
fn an_export_that_a_signal_ends_is_put_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let whole = "{\"seq\":9}\n{\"seq\":8}\n";
    let url = Answer { status: "200 OK", body: format!("{whole}{{\"seq\""), last: Last::Waits }.serve();
    let mut child = Command::new(env!("CARGO_BIN_EXE_docket"))
        .args(["export", "--url", &url, "--token", "t", "--out", "x.jsonl"])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = folder.path().join("x.jsonl.part");
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::fs::metadata(&part).map_or(0, |part| part.len()) <= whole.len() as u64 {
        assert!(Instant::now() < deadline, "nothing arrives");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let code = ended(&mut child);
    let mut error = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut error).unwrap();
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("it was interrupted; `x.jsonl.part` has 2 entries whole"), "{error}");
    assert_eq!(std::fs::read_to_string(part).unwrap(), whole);
}

fn ended(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < deadline, "the command does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_says_what_it_wrote_and_what_goes_on_from_it_is_the_rest() {
    let docket = Docket::start().await;
    for number in 0..5 {
        docket.evaluate(&format!("out-{number}"), "echo", json!({"text": "a\n\"b\""})).await;
    }
    let read = |name: &str| std::fs::read_to_string(docket.folder.path().join(name)).unwrap();
    for format in ["jsonl", "csv"] {
        let export = async |more: &[&str]| {
            let options = ["export", "--kind", "decision", "--order", "asc", "--format", format];
            let (code, _, error) = docket.command(&[&options[..], more].concat()).await;
            assert_eq!(code, 0, "{error}");
            error
        };
        let (whole, first, rest) = (format!("all.{format}"), format!("a.{format}"), format!("b.{format}"));
        let said = export(&["--out", &whole]).await;
        let sha256 = hex::encode(Sha256::digest(read(&whole)));
        let wrote = format!("wrote 5 entries, {} bytes, sha256 {sha256} to", read(&whole).len());
        assert!(said.contains(&wrote), "{said}");
        assert!(export(&["--out", &first, "-n", "2"]).await.contains("wrote 2 entries"));
        let listed = docket.entries("out-1").await;
        let seq = listed[0]["seq"].to_string();
        assert!(export(&["--out", &rest, "--cursor", &seq]).await.contains("wrote 3 entries"));
        let rest = read(&rest);
        // The rest of a table has a header of its own.
        let rest = if format == "csv" { rest.split_once("\r\n").unwrap().1 } else { &rest };
        assert_eq!(read(&first) + rest, read(&whole));
    }
    docket.stop().await;
}
