"""Metric kernels: functions of tensors, without files, models, processes or logging."""
