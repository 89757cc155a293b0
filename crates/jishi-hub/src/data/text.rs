//! Small pieces of text formats: rows of CSV and JSONL, HTML without its tags.

/// A row of CSV. Fields with separators, quotes or line breaks are quoted.
pub(super) fn csv_row(fields: &[&str]) -> String {
    let quoted = fields.iter().map(|field| {
        if field.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            (*field).to_string()
        }
    });
    quoted.collect::<Vec<_>>().join(",") + "\n"
}

/// A row of JSONL.
pub(super) fn json_row(row: serde_json::Value) -> String {
    row.to_string() + "\n"
}

/// UTF-8, or what is left of Latin-1.
pub(super) fn decode(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| e.into_bytes().into_iter().map(char::from).collect())
}

/// Text with its character references replaced.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference =
            rest.find(';').filter(|end| *end <= 10).and_then(|end| Some((character(&rest[1..end])?, end)));
        match reference {
            Some((character, end)) => {
                out.push(character);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

fn character(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

/// What is read of HTML: no tags, one space between words.
pub(super) fn strip_tags(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        rest = rest[at..].find('>').map_or("", |end| &rest[at + end + 1..]);
    }
    text.push_str(rest);
    unescape(&text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_quoted_where_they_must_be() {
        assert_eq!(csv_row(&["a", "b, \"c\"", "d\ne"]), "a,\"b, \"\"c\"\"\",\"d\ne\"\n");
    }

    #[test]
    fn html_is_read_as_text() {
        assert_eq!(
            strip_tags("a <b class='x'>bold</b>\n &amp; &lt;i&gt; &#39;q&#x27; &bogus; &"),
            "a bold & <i> 'q' &bogus; &"
        );
        assert_eq!(strip_tags("cut <off"), "cut");
        assert_eq!(decode(vec![0xa3, b'5']), "£5");
        assert_eq!(unescape("&é;&#1114112;"), "&é;&#1114112;");
    }
}
