//! The description of the server as a page: no script, and nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f3f3f3;padding:.8rem;\
overflow:auto}summary{cursor:pointer;padding:.4rem 0}details{border-bottom:1px solid #ddd}b{color:#0a5}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#141414}pre{background:#222}\
details{border-color:#333}b{color:#5d9}a{color:#8bf}}";

/// The page of a document that [`super::document`] made.
#[must_use]
pub fn page(document: &Value) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Jishi</title>\
         <style>{STYLE}</style></head><body><main><h1>Jishi {}</h1><p>{}</p>\
         <p>For programs: <a href=\"openapi.json\">openapi.json</a></p>",
        escaped(document["info"]["version"].as_str().unwrap_or_default()),
        escaped(document["info"]["description"].as_str().unwrap_or_default()),
    );
    let empty = Map::new();
    for (path, methods) in document["paths"].as_object().unwrap_or(&empty) {
        for (method, operation) in methods.as_object().unwrap_or(&empty) {
            let summary = escaped(operation["summary"].as_str().unwrap_or_default());
            let _ = write!(
                out,
                "<details><summary><b>{}</b> <code>{}</code> {summary}</summary>",
                method.to_uppercase(),
                escaped(path)
            );
            for (kind, content) in operation["requestBody"]["content"].as_object().unwrap_or(&empty) {
                schema(&mut out, &format!("Body ({kind})"), &content["schema"]);
            }
            for (kind, content) in operation["responses"]["200"]["content"].as_object().unwrap_or(&empty) {
                schema(&mut out, &format!("Answer ({kind})"), &content["schema"]);
            }
            out += "</details>";
        }
    }
    out += "<h2>Errors</h2><ul>";
    for (status, response) in document["components"]["responses"].as_object().unwrap_or(&empty) {
        let what = escaped(response["description"].as_str().unwrap_or_default());
        let _ = write!(out, "<li><code>{status}</code> {what}</li>");
    }
    out + "</ul></main></body></html>\n"
}

fn schema(out: &mut String, title: &str, schema: &Value) {
    let text = serde_json::to_string_pretty(schema).unwrap_or_default();
    let _ = write!(out, "<p>{}</p><pre>{}</pre>", escaped(title), escaped(&text));
}

/// A text as it stands in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_in_a_document_is_text() {
        let operation = json!({
            "summary": "<script>", "requestBody": { "content": { "a/b": { "schema": { "x": "</pre>" } } } },
        });
        let page = page(&json!({ "paths": { "/<b>": { "post": operation } } }));
        assert!(!page.contains("<script>") && !page.contains("\"</pre>\"") && !page.contains("/<b>"));
        assert!(page.contains("&lt;script&gt;") && page.contains("POST"), "{page}");
    }
}
