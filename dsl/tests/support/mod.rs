//! What the tests of the language give a program from outside: files, and strategies of fusion.

use std::path::{Path, PathBuf};

use jam_ir::{SettingKind, SettingSignature, SettingValue, StrategySignature};

/// The folder of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Signatures like those of the strategies, as data.
pub(crate) fn strategies() -> Vec<StrategySignature> {
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let setting =
        |name: &str, kind: SettingKind, default: SettingValue, help: &str| SettingSignature {
            name: name.to_owned(),
            kind,
            default,
            help: help.to_owned(),
            implies: Vec::new(),
        };
    let word = |name: &str, list: &[&str], help: &str| {
        let default = SettingValue::Word(list[0].to_owned());
        setting(name, SettingKind::Word(words(list)), default, help)
    };
    let strategy = |name: &str, help: &str, settings: Vec<SettingSignature>| StrategySignature {
        name: name.to_owned(),
        help: help.to_owned(),
        min_parents: 2,
        max_parents: 2,
        settings,
    };
    let every = SettingKind::Count {
        min: 1,
        words: words(&["never"]),
    };
    let graded = |name: &str, (min, max): (f64, f64), default: f64, each: bool| {
        let kind = SettingKind::Graded { min, max, each };
        setting(
            name,
            kind,
            SettingValue::Number(default),
            "how much it counts",
        )
    };
    let weight = || graded("weight", (-1e6, 1e6), 1.0, true);
    let base = setting(
        "base",
        SettingKind::Parent { required: true },
        SettingValue::Word("none".to_owned()),
        "the model that all were tuned from",
    );
    let parents = |least: usize, mut signature: StrategySignature| {
        (signature.min_parents, signature.max_parents) = (least, usize::MAX);
        signature
    };
    let tasks = vec![
        base,
        weight(),
        graded("lambda", (-1e6, 1e6), 1.0, false),
        graded("density", (0.0, 1.0), 1.0, true),
    ];
    let runs = setting(
        "layers",
        SettingKind::Layers,
        SettingValue::Word("all".to_owned()),
        "layers of each parent",
    );
    vec![
        strategy(
            "uniform",
            "every weight is the mean",
            vec![graded("share", (0.0, 1.0), 0.5, false)],
        ),
        strategy(
            "width",
            "both parents side by side",
            vec![
                word(
                    "off_diagonal",
                    &["copy", "average", "zero"],
                    "what joins the two halves",
                ),
                word("norm", &["joint", "halves"], "what a norm sees"),
                word("start", &["paper", "parents"], "how it begins"),
            ],
        ),
        strategy(
            "cross",
            "two towers that read each other",
            vec![
                setting(
                    "every",
                    every,
                    SettingValue::Count(2),
                    "layers between two exchanges",
                ),
                word(
                    "at",
                    &["first", "last"],
                    "which layer of each group exchanges",
                ),
                setting(
                    "kv_norm",
                    SettingKind::Flag,
                    SettingValue::Flag(false),
                    "norm on the other's states",
                ),
                word("head", &["joint", "rows"], "what logits come from"),
                word("start", &["paper", "parents"], "how new weights begin").implying(
                    SettingValue::Word("parents".to_owned()),
                    [("head".to_owned(), SettingValue::Word("rows".to_owned()))].into(),
                ),
            ],
        ),
        strategy(
            "slerp",
            "between both",
            vec![graded("t", (0.0, 1.0), 0.5, false)],
        ),
        parents(2, strategy("linear", "a weighted sum", vec![weight()])),
        parents(1, strategy("ties", "what is added to a base", tasks)),
        parents(1, strategy("passthrough", "layers upon layers", vec![runs])),
    ]
}
