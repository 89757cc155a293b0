//! Markdown as HTML: what model cards are made of, and nothing that could run. HTML in it is shown as text.

use super::html::{Html, a, safe_link, tag};

/// Renders a page. Relative pictures are looked up below `files`, as `/runs/NAME/files`.
#[must_use]
pub fn render(text: &str, files: &str) -> Html {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Html::none();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_end();
        let words = line.trim_start();
        if words.is_empty() {
            at += 1;
        } else if let Some(fence) = words.strip_prefix("```") {
            let _ = fence;
            let end = (at + 1..lines.len()).find(|i| lines[*i].trim_start().starts_with("```"));
            let end = end.unwrap_or(lines.len());
            out.push(tag("pre").attr("tabindex", "0").add(tag("code").add(lines[at + 1..end].join("\n"))));
            at = end + 1;
        } else if let Some((level, title)) = heading(words) {
            out.push(tag(level).add(inline(title, files)));
            at += 1;
        } else if words.starts_with('|') {
            let end = while_lines(&lines, at, |l| l.starts_with('|'));
            out.push(table(&lines[at..end], files));
            at = end;
        } else if words.starts_with("> ") || words == ">" {
            let end = while_lines(&lines, at, |l| l.starts_with('>'));
            let strip = |l: &&str| l.trim_start().trim_start_matches('>').trim_start().to_owned();
            let inside: Vec<String> = lines[at..end].iter().map(strip).collect();
            out.push(tag("blockquote").add(render(&inside.join("\n"), files)));
            at = end;
        } else if let Some(kind) = list_kind(words) {
            let end = while_lines(&lines, at, |l| list_kind(l).is_some());
            let item = |l: &&str| tag("li").add(inline(bare(l.trim_start()), files));
            out.push(tag(kind).all(lines[at..end].iter().map(item)));
            at = end;
        } else {
            let plain = |l: &str| {
                !l.is_empty()
                    && heading(l).is_none()
                    && list_kind(l).is_none()
                    && !["```", "|", ">"].iter().any(|start| l.starts_with(start))
            };
            let end = while_lines(&lines, at, plain).max(at + 1);
            let mut paragraph = tag("p");
            for (i, line) in lines[at..end].iter().enumerate() {
                if i > 0 {
                    let breaks = lines[at + i - 1].ends_with("  ");
                    paragraph = if breaks { paragraph.add(tag("br")) } else { paragraph.add("\n") };
                }
                paragraph = paragraph.add(inline(line.trim(), files));
            }
            out.push(paragraph);
            at = end;
        }
    }
    out
}

fn while_lines(lines: &[&str], from: usize, like: impl Fn(&str) -> bool) -> usize {
    (from..lines.len()).find(|i| !like(lines[*i].trim())).unwrap_or(lines.len())
}

/// The page has a title of its own: those of a card begin one below.
fn heading(line: &str) -> Option<(&'static str, &str)> {
    let level = line.bytes().take_while(|b| *b == b'#').count();
    let title = line[level..].strip_prefix(' ')?;
    let names = ["h2", "h3", "h4", "h5", "h6", "h6"];
    Some((names.get(level.checked_sub(1)?)?, title.trim()))
}

fn list_kind(line: &str) -> Option<&'static str> {
    if line.starts_with("- ") || line.starts_with("* ") {
        return Some("ul");
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0 && line[digits..].starts_with(". ")).then_some("ol")
}

fn bare(item: &str) -> &str {
    item.split_once(' ').map_or(item, |(_, rest)| rest)
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|');
    let row = row.strip_suffix('|').unwrap_or(row);
    let (mut cells, mut cell, mut escaped) = (Vec::new(), String::new(), false);
    for c in row.chars() {
        if c == '|' && !escaped {
            cells.push(std::mem::take(&mut cell));
        } else {
            cell.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    cells.push(cell);
    cells.into_iter().map(|c| c.trim().to_owned()).collect()
}

fn table(rows: &[&str], files: &str) -> Html {
    let rule = |row: &str| cells(row).iter().all(|c| c.contains('-') && c.chars().all(|x| "-: ".contains(x)));
    let right: Vec<bool> = match rows.get(1).filter(|row| rule(row)) {
        Some(row) => cells(row).iter().map(|c| c.ends_with(':')).collect(),
        None => Vec::new(),
    };
    let row = |text: &str, kind: &'static str| {
        let cell = |(i, c): (usize, String)| {
            let class = if right.get(i) == Some(&true) { "number" } else { "" };
            let scope = (kind == "th").then_some("col");
            tag(kind).class(class).maybe("scope", scope).add(inline(&c, files))
        };
        tag("tr").all(cells(text).into_iter().enumerate().map(cell))
    };
    let (head, body) = if right.is_empty() { (None, rows) } else { (rows.first(), &rows[2..]) };
    let titled = head.filter(|h| cells(h).iter().any(|c| !c.is_empty()));
    let table = tag("table")
        .add(titled.map(|h| tag("thead").add(row(h, "th"))))
        .add(tag("tbody").all(body.iter().map(|r| row(r, "td"))));
    super::html::div("scroll").attr("tabindex", "0").add(table).into()
}

/// Words of a line: code, emphasis, links, pictures, and characters after `\`.
fn inline(text: &str, files: &str) -> Html {
    let mut out = Html::none();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let spliced = match c {
            '\\' => rest[1..].chars().next().filter(char::is_ascii_punctuation).map(|escaped| {
                plain.push(escaped);
                (None, 1 + escaped.len_utf8())
            }),
            '`' => between(rest, "`", "`").map(|(code, end)| (Some(tag("code").add(code).into()), end)),
            '!' if rest.starts_with("![") => link(&rest[1..]).map(|(alt, to, end)| {
                let plain = to.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
                let picture = if plain && !to.contains([':', '\\']) {
                    tag("img")
                        .attr("src", format!("{files}/{to}"))
                        .attr("alt", alt)
                        .attr("loading", "lazy")
                        .into()
                } else {
                    Html::from(alt)
                };
                (Some(picture), end + 1)
            }),
            '[' => link(rest).map(|(words, to, end)| {
                let inside = inline(words, files);
                let away = to.starts_with("http") && safe_link(to);
                let link =
                    if away { a(to).attr("rel", "noreferrer noopener").add(inside).into() } else { inside };
                (Some(link), end)
            }),
            '*' if rest.starts_with("**") => between(rest, "**", "**")
                .map(|(words, end)| (Some(tag("strong").add(inline(words, files)).into()), end)),
            '*' | '_' if plain.ends_with([' ', '(']) || plain.is_empty() => {
                let mark = if c == '*' { "*" } else { "_" };
                between(rest, mark, mark)
                    .map(|(words, end)| (Some(tag("em").add(inline(words, files)).into()), end))
            }
            _ => None,
        };
        match spliced {
            Some((piece, length)) => {
                if let Some(piece) = piece {
                    out.push(std::mem::take(&mut plain));
                    let piece: Html = piece;
                    out.push(piece);
                }
                rest = &rest[length..];
            }
            None => {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out.push(plain);
    out
}

/// What is between two marks at the beginning, and where the second ends.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, usize)> {
    let inside = text.strip_prefix(open)?;
    let end = inside.find(close).filter(|end| *end > 0)?;
    Some((&inside[..end], open.len() + end + close.len()))
}

/// `[words](to)` at the beginning, and where it ends.
fn link(text: &str) -> Option<(&str, &str, usize)> {
    let (words, at) = between(text, "[", "](")?;
    let end = text[at..].find(')')?;
    Some((words, &text[at..at + end], at + end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        render(text, "/runs/a/files").into_string()
    }

    #[test]
    fn a_card_is_a_page() {
        let text = html(
            "# houses\n\nIt predicts `price`, a **number**.\nMore.\n\n| a | b |\n|---|---:|\n| x\\|y | 1 |\n\n- one\n- two\n\n\
             ```sh\njishi <x>\n```\n\n![Curves](curves.png)\n\n> said  \n> twice\n",
        );
        for part in [
            "<h2>houses</h2>",
            "<p>It predicts <code>price</code>, a <strong>number</strong>.\nMore.</p>",
            "<th scope=\"col\">a</th><th class=\"number\" scope=\"col\">b</th>",
            "<td>x|y</td><td class=\"number\">1</td>",
            "<ul><li>one</li><li>two</li></ul>",
            "<code>jishi &lt;x&gt;</code>",
            "<img src=\"/runs/a/files/curves.png\" alt=\"Curves\" loading=\"lazy\">",
            "<blockquote><p>said",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn nothing_runs_and_nothing_leaves() {
        let text = html(
            "<script>x</script> [a](javascript:x) [b](https://b.org) ![p](https://x.org/p.png) ![q](../../secret) \\<b\\>\n",
        );
        assert!(!text.contains("<script") && !text.contains("javascript") && !text.contains("<b>"), "{text}");
        assert!(!text.contains("<img") && text.contains("href=\"https://b.org\""), "{text}");
        assert!(text.contains("&lt;b&gt;"), "{text}");
    }

    #[test]
    fn odd_text_ends() {
        for odd in [
            "```",
            "|",
            "> ",
            "[",
            "![",
            "**",
            "`",
            "#",
            "####### x",
            "1.",
            "\\",
            "| a |\n|---|",
            "***",
            "_",
            "- ",
        ] {
            html(odd);
        }
    }
}
