//! Pictures: in and out as PNG and JPEG, resized and cropped, and sheets of many.
