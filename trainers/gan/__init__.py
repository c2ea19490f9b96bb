"""Class-conditional GANs: in both networks, the class of an image is its route."""
