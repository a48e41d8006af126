//! Files: both kinds of upload, the same bytes back, posts with files.

use super::expect::{ensure, head_differences, like, outcome, refused};
use super::{Failure, Outcome, Run};
use crate::client::{Answer, Client};
use crate::recording;
use serde_json::json;

/// Reproducible bytes of every value, too irregular to be compressed away.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

fn form(channel: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--XBOUND\r\nContent-Disposition: form-data; name=\"channel_id\"\r\n\r\n{channel}\r\n--XBOUND\r\n\
         Content-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--XBOUND--\r\n");
    body
}

fn upload(client: &Client, channel: &str, name: &str, bytes: &[u8]) -> Result<Answer, Failure> {
    let headers = [("content-type", "multipart/form-data; boundary=XBOUND")];
    Ok(client.call(
        "POST",
        "/api/v4/files",
        &headers,
        &form(channel, name, bytes),
    )?)
}

fn file_id(answer: &Answer) -> String {
    answer.json()["file_infos"][0]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn same_bytes(client: &Client, id: &str, bytes: &[u8]) -> Result<Answer, Failure> {
    let answer = client.get(&format!("/api/v4/files/{id}"))?;
    ensure(answer.bytes == bytes, || {
        let at = answer.bytes.iter().zip(bytes).position(|(a, b)| a != b);
        format!(
            "other bytes came back: {} instead of {}, first difference at {at:?}",
            answer.bytes.len(),
            bytes.len()
        )
    })?;
    Ok(answer)
}

pub fn run(run: &mut Run<'_>) {
    let strict = run.target.strict;
    let small = noise(100_000);
    run.check("upload by form", |r| {
        let answer = upload(&r.admin()?, &r.channel()?, "blob.bin", &small)?;
        if answer.status == 201 {
            r.file = Some(file_id(&answer));
        }
        like(&answer, &recording::upload(), strict)
    });
    run.check("download", |r| {
        let id = r.file.clone().ok_or(Failure::Unreached("file"))?;
        let answer = same_bytes(&r.admin()?, &id, &small)?;
        outcome(head_differences(&answer, &recording::download()))
    });
    run.check("simple upload", |r| {
        let path = format!("/api/v4/files?channel_id={}&filename=a.txt", r.channel()?);
        let text = b"plain text content";
        let kind = [("content-type", "text/plain")];
        let answer = r.admin()?.call("POST", &path, &kind, text)?;
        like(&answer, &recording::upload_simple(), strict)?;
        let got = same_bytes(&r.admin()?, &file_id(&answer), text)?;
        let kind = got.header("content-type").unwrap_or_default();
        ensure(kind.starts_with("text/plain"), || {
            format!("its type is {kind}")
        })
    });
    run.check("post with a file", |r| {
        let id = r.file.clone().ok_or(Failure::Unreached("file"))?;
        let body = json!({"channel_id": r.channel()?, "message": "with file", "file_ids": [id]});
        let answer = r.admin()?.post("/api/v4/posts", &body)?;
        like(&answer, &recording::post_with_file(), strict)?;
        ensure(answer.json()["file_ids"][0] == id.as_str(), || {
            answer.text()
        })
    });
    run.check("file info", |r| {
        let id = r.file.clone().ok_or(Failure::Unreached("file"))?;
        let answer = r.admin()?.get(&format!("/api/v4/files/{id}/info"))?;
        like(&answer, &recording::file_info(), strict)?;
        ensure(answer.json()["size"] == 100_000, || answer.text())
    });
    run.check("a large file, and names that are not ASCII", |r| {
        let large = noise(5_000_000);
        let answer = upload(&r.admin()?, &r.channel()?, "Bericht größer.dat", &large)?;
        ensure(answer.status == 201, || answer.text())?;
        same_bytes(&r.admin()?, &file_id(&answer), &large)?;
        let name = &answer.json()["file_infos"][0]["name"];
        ensure(name == "Bericht größer.dat", || {
            format!("its name is {name}")
        })
    });
    run.check("files are not for strangers", strangers);
}

fn strangers(r: &mut Run<'_>) -> Outcome {
    let id = r.file.clone().ok_or(Failure::Unreached("file"))?;
    refused(&r.stranger.get(&format!("/api/v4/files/{id}"))?, &[401])?;
    refused(
        &r.admin()?.get("/api/v4/files/8o9mzbi1djgn9eyixfhgemsbsf")?,
        &[404],
    )
}
