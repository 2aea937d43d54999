"""Networks on short segments of feature maps: CNNs pre-trained on images, their windows and their training."""
