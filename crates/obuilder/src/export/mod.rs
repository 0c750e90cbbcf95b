//! Takes results out of the store: files of a layer, or a layer as an OCI image.
