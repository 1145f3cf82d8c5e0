//! `tidewell token`: keys are made, tokens minted, and what the relay would say about them is told.

use crate::process::{output, program};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn inspect(token: &str, arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(["token", "inspect"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_minted_token_is_accepted_with_the_printed_keys_and_says_what_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let (private, public) = (folder.path().join("private.json"), folder.path().join("public.json"));
    let (private_path, public_path) = (private.to_str().unwrap(), public.to_str().unwrap());
    for kind in ["ed25519", "p256"] {
        let printed = text(&output(&["token", "key", "--keys", private_path, "--kind", kind]));
        assert!(!printed.contains("\"d\""), "{printed}");
        std::fs::write(&public, printed).unwrap();
        let mint =
            ["token", "mint", "--keys", private_path, "--subject", "ada", "--id", "t1", "--role", "seller"];
        let grants = ["--document", "write:acme/list/*", "--ledger", "read:acme/**", "--audience", "here"];
        let token = text(&output(&[&mint[..], &grants].concat()));
        let shown =
            inspect(&token, &["--keys", public_path, "--audience", "here", "--document", "acme/list/42"]);
        let shown = text(&shown);
        for part in ["\"sub\": \"ada\"", "\"jti\": \"t1\"", "\"seller\"", "accepted", "acme/list/42: write"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let elsewhere = inspect(&token, &["--keys", public_path, "--audience", "elsewhere"]);
        assert!(!elsewhere.status.success());
        assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("audience"));
        assert!(text(&inspect(&token, &[])).contains("not checked"));
    }
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    let keys: serde_json::Value = serde_json::from_slice(&std::fs::read(&public).unwrap()).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2, "keys are added, not replaced");
}

#[test]
fn nothing_is_made_with_wrong_arguments_or_keys() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    let path = keys.to_str().unwrap();
    let refused = |arguments: &[&str], part: &str| {
        let output = output(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty() && error.contains(part), "{error}");
    };
    let mint = ["token", "mint", "--keys", path, "--subject", "ada"];
    refused(&mint, "No such file");
    text(&output(&["token", "key", "--keys", path, "--kind", "hmac", "--id", "one"]));
    refused(&["token", "key", "--keys", path, "--id", "one"], "same kid");
    refused(&[&mint[..], &["--document", "own:acme/**"]].concat(), "none of read");
    refused(&[&mint[..], &["--document", "acme/**"]].concat(), "a grant is as");
    refused(&[&mint[..], &["--document", "write:acme*"]].concat(), "whole segment");
    refused(&["token", "mint", "--keys", path, "--subject", ""], "invalid_token");
    refused(&[&mint[..], &["--role", &"x".repeat(8 << 10)]].concat(), "8 KiB");
    refused(&[&mint[..], &["--key", "two"]].concat(), "no private key with the kid \"two\"");
    std::fs::write(&keys, "{\"keys\": [{}").unwrap();
    refused(&["token", "key", "--keys", path], "no JWKS");
    assert_eq!(std::fs::read_to_string(&keys).unwrap(), "{\"keys\": [{}", "left as it was");
    assert!(!inspect("no token", &[]).status.success());
    for (token, why) in [("", "there is no token"), (&*"x".repeat(9 << 10), "more than 8 KiB")] {
        let error = inspect(token, &[]).stderr;
        assert!(String::from_utf8_lossy(&error).contains(why), "{}", String::from_utf8_lossy(&error));
    }
}

#[test]
fn a_new_key_leaves_everything_else_in_its_file_as_it_was_and_shows_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("private.json"), folder.path().join("link.json"));
    let rsa = json!({ "kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB", "d": "secret", "p": "secret" });
    std::fs::write(&file, json!({ "keys": [rsa], "note": "ours" }).to_string()).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let printed = text(&output(&["token", "key", "--keys", link.to_str().unwrap()]));
    assert!(!printed.contains("secret"), "{printed}");
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&kept["keys"][0], &kept["note"]), (&rsa, &json!("ours")));
    assert_eq!(kept["keys"][1]["kty"], "OKP");
    assert!(link.is_symlink(), "the link's file is another one now");
}
