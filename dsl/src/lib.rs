//! The .jam language: text to checked program, formatter, error reports.
