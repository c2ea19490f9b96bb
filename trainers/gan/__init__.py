"""Class-conditional GANs: the class of every image is its route, in the generator and in the discriminator."""
