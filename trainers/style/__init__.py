"""The task of style transfer: AdaIN with a sandwich affine, and many styles as routes."""
