"""Every file and folder that tumorseg writes or reads."""
