"""What two or more rooms share: attention, transformer blocks, the ADM U-Net and the time embedding."""
