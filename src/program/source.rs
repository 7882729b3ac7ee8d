//! What a program was read from, as one text that goes into model folders.

use std::path::Path;

use jam_ir::span::SourceMap;

/// The main file as it stands; behind it every file that it uses and every value that the command line gave, each under
/// a comment that says so. Files are named from the folder of the main one.
pub(super) fn whole_text(sources: &SourceMap, folder: &Path) -> String {
    let mut all = sources.iter().map(|(_, source)| source);
    let mut text = all
        .next()
        .map_or_else(String::new, |main| main.text.clone());
    for source in all {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if source.text.starts_with("--set ") {
            let flag: Vec<&str> = source.text.lines().collect();
            text.push_str(&format!("\n// {}\n", flag.join("\n// ")));
            continue;
        }
        let name = Path::new(&source.name);
        let name = name.strip_prefix(folder).unwrap_or(name).display();
        // A name may hold anything, and the comment ends with its line.
        let name = name.to_string().replace(['\n', '\r'], " ");
        text.push_str(&format!(
            "\n// {name}, which is used above:\n\n{}",
            source.text
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_used_and_values_that_are_set_stand_behind_the_main_file() {
        let mut sources = SourceMap::new();
        sources.add("here/a.jam", "use \"b/c.jam\"\n").unwrap();
        let main = whole_text(&sources, Path::new("here"));
        assert_eq!(main, "use \"b/c.jam\"\n", "alone it is as it was written");
        sources.add("here/b/c.jam", "let x = 1").unwrap();
        sources.add("the command line", "--set x=2").unwrap();
        assert_eq!(
            whole_text(&sources, Path::new("here")),
            "use \"b/c.jam\"\n\n// b/c.jam, which is used above:\n\nlet x = 1\n\n// --set x=2\n"
        );
    }
}
