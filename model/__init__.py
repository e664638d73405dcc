"""The methods: tensors in, tensors out, without files, folds or devices."""
